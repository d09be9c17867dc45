"""Where people stand with a model as the Hub counts: four lists, one entry for a person, the newest that counts.

Drafts and withdrawn requests are in none of the lists. Everybody's newest request and grant are two queries; what
a page of a list shows of them are three more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.utils import timezone

from access_requests.enums import OPEN_STATES, Place, RequestState
from access_requests.models import AccessRequest, FormVersion, GatedModel, Grant
from access_requests.queries import NEWEST_FIRST, is_older

if TYPE_CHECKING:
    from portal.accounts.models import User

UNCOUNTED = (RequestState.DRAFT, RequestState.WITHDRAWN)
# The columns by which a place in a list is found; there may be many rows.
OF_REQUESTS = ("applicant", "model", "state", "created_at", "submitted_at", "closed_at")
OF_GRANTS = ("user", "model", "granted_by", "starts_at", "ends_at", "revoked_at")
GRANT_ID = "grant-"  # how the id of an entry without a request begins


@dataclass(frozen=True)
class Case:
    """One person towards one model: the newest request that counts, the newest grant, and the list they come to.

    `decision` is the newest decision about the request; whoever looked before it was made came too late.
    """

    person_id: int
    place: Place | None = None
    request: AccessRequest | None = None
    grant: Grant | None = None
    decision: int | None = None

    @property
    def shown(self) -> AccessRequest | None:
        """The request that stands in the list; of somebody with access, the one that gave it."""
        if self.place == Place.ACCEPTED and self.grant is not None:
            return self.grant.request
        return self.request

    @property
    def id(self) -> str:
        """What `requestId` names."""
        if self.shown is not None:
            return str(self.shown.pk)
        return f"{GRANT_ID}{self.grant.pk}" if self.grant else ""

    @property
    def asked_at(self) -> datetime | None:
        """When it was asked for; of access given without a request, when it was given."""
        if self.shown is not None:
            return self.shown.submitted_at
        return self.grant.starts_at if self.grant else None

    @property
    def settled_at(self) -> datetime | None:
        """When somebody decided last, or time did; nothing while it waits."""
        if self.place == Place.ACCEPTED and self.grant is not None:
            approved_at = self.shown.closed_at if self.shown else None
            return max(self.grant.starts_at, approved_at or self.grant.starts_at)
        if self.place == Place.PENDING:
            return None
        if self.grant is not None and (self.request is None or is_older(self.request, self.grant)):
            return self.grant.revoked_at or self.grant.ends_at
        return self.request.closed_at if self.request else None


@dataclass(frozen=True)
class Entry:
    """A case with what a list says about it."""

    case: Case
    person: User
    request: AccessRequest | None  # with its form
    granted_by: User | None

    @property
    def asked(self) -> bool:
        """Whether the person asked; a request that stands for access given unasked is younger than its own date."""
        request = self.request
        return request is not None and (
            request.submitted_at is None or request.created_at <= request.submitted_at
        )


def place_of(request: AccessRequest | None, grant: Grant | None) -> Place | None:
    """The list that a person's newest counting request and newest grant come to."""
    if grant is not None and grant.is_live():
        return Place.ACCEPTED
    if request is None:
        return Place.RESET if grant else None
    if request.is_open:
        return Place.PENDING
    if request.state == RequestState.REJECTED and not (grant and is_older(request, grant)):
        return Place.REJECTED
    return Place.RESET


def case_of(person: Any, model: GatedModel) -> Case:
    """Where this person stands now; without a place for somebody who never asked."""
    found = next(iter(_cases(model, pk=person.pk)), Case(person.pk))
    if found.request is None:
        return found
    decision = found.request.decisions.order_by("-pk").values_list("pk", flat=True).first()
    return Case(found.person_id, found.place, found.request, found.grant, decision)


def person_of(model: GatedModel, entry_id: str) -> Any:
    """Whom an entry's id names, or None; the id of an entry that another one has replaced names nobody."""
    number = entry_id.removeprefix(GRANT_ID)
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    if entry_id.startswith(GRANT_ID):
        grant = Grant.objects.filter(model=model, pk=int(number)).select_related("user").first()
        if grant is None:
            return None
        person, entry_id = grant.user, str(grant.request_id) if grant.request_id else entry_id
    else:
        request = (
            AccessRequest.objects.filter(model=model, pk=int(number)).select_related("applicant").first()
        )
        if request is None:
            return None
        person = request.applicant
    return person if case_of(person, model).id == entry_id else None


def cases_in(
    model: GatedModel,
    places: Iterable[Place] = tuple(Place),
    *,
    name: str = "",
    after: datetime | None = None,
    before: datetime | None = None,
) -> list[Case]:
    """The entries of these lists, the longest waiting first: `name` begins the user name, `after` and `before` bound when it was asked."""
    wanted = set(places)
    who = {"username__istartswith": name} if name else {}
    waiting = wanted == {Place.PENDING}
    found = [case for case in _cases(model, waiting=waiting, **who) if case.place in wanted]
    if after is not None:
        found = [case for case in found if case.asked_at and case.asked_at > after]
    if before is not None:
        found = [case for case in found if case.asked_at and case.asked_at < before]
    return sorted(found, key=order)


def order(case: Case) -> tuple[datetime, int]:
    """A place in a list that stays when others leave it."""
    return case.asked_at or timezone.now(), case.person_id


def entries(cases: Iterable[Case], *, answers: bool = True) -> list[Entry]:
    """The cases with people and who gave access; with `answers` also with the whole request and its form."""
    cases = list(cases)
    people = get_user_model().objects.in_bulk(
        {case.person_id for case in cases}
        | {case.grant.granted_by_id for case in cases if case.grant and case.grant.granted_by_id}
    )
    whole = _whole_requests(cases) if answers else {}
    return [
        Entry(
            case,
            people[case.person_id],
            whole.get(case.shown.pk, case.shown) if case.shown else None,
            people.get(case.grant.granted_by_id) if case.grant and case.place == Place.ACCEPTED else None,
        )
        for case in cases
    ]


def _whole_requests(cases: Iterable[Case]) -> dict[int, AccessRequest]:
    """By key, with forms that many share."""
    requests = AccessRequest.objects.in_bulk({case.shown.pk for case in cases if case.shown})
    forms = FormVersion.objects.in_bulk({request.form_id for request in requests.values()})
    for request in requests.values():
        request.form = forms[request.form_id]
    return requests


def _cases(model: GatedModel, *, waiting: bool = False, **who: Any) -> list[Case]:
    """Everybody's, of the people that `who` lets through; `waiting`: of those with an open request, who are few."""
    asked = AccessRequest.objects.filter(model=model, submitted_at__isnull=False).exclude(state__in=UNCOUNTED)
    given = Grant.objects.filter(model=model).select_related("request")
    asked = asked.filter(**{f"applicant__{name}": value for name, value in who.items()})
    given = given.filter(**{f"user__{name}": value for name, value in who.items()})
    if waiting:
        asked = asked.filter(state__in=OPEN_STATES)
        given = given.filter(user__in=asked.values("applicant"))
    requests, grants = _newest_requests(asked), _newest_grants(given)
    both = {person: (requests.get(person), grants.get(person)) for person in requests.keys() | grants.keys()}
    return [Case(person, place_of(*pair), *pair) for person, pair in both.items()]


def _newest_requests(asked: QuerySet[AccessRequest]) -> dict[int, AccessRequest]:
    newest = asked.order_by("applicant_id", *NEWEST_FIRST).distinct("applicant_id")
    return {request.applicant_id: request for request in newest.only(*OF_REQUESTS)}


def _newest_grants(given: QuerySet[Grant]) -> dict[int, Grant]:
    newest = given.order_by("user_id", "-pk").distinct("user_id")
    shown = [*OF_GRANTS, *(f"request__{name}" for name in OF_REQUESTS)]
    return {grant.user_id: grant for grant in newest.only(*shown)}
