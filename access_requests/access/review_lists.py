"""Place people in the Hub's four lists of a model: one entry per person, with the newest request that counts.

Drafts and withdrawn requests are in none of the lists. `access_requests.access.list_pages` finds who is on a page of a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import F, Max, QuerySet
from django.utils import timezone
from django.utils.functional import cached_property

from access_requests.access.compiled_query import SAMPLE_NUMBER, SAMPLE_NUMBERS, CompiledQuery
from access_requests.access.situation import NEWEST_FIRST, PLACES, is_older, situation
from access_requests.enums import Place, RequestState
from access_requests.models import AccessRequest, FormVersion, GatedModel, Grant
from access_requests.people import full_name
from access_requests.search import AnyOf

UNCOUNTED = (RequestState.DRAFT, RequestState.WITHDRAWN)
# The columns that determine a place in a list, and those that the list shows.
OF_REQUESTS = (
    "applicant", "model", "state", "created_at", "submitted_at", "closed_at", "form", "answers", "address", "appeal",
)  # fmt: skip
OF_GRANTS = ("user", "model", "request", "granted_by", "starts_at", "ends_at", "revoked_at")
OF_PEOPLE = ("pk", "username", "first_name", "last_name", "email")
GRANT_ID = "grant-"  # the beginning of the id of an entry without a request


@dataclass(frozen=True)
class ReviewEntry:
    """One person and one model: the newest request that counts, the newest grant, and the list they belong in.

    `decision` is the newest decision about the request, and `submission` the number of its newest submission; a reviewer
    who saw the page before them is too late.
    """

    person_id: int
    place: Place | None = None
    request: AccessRequest | None = None
    grant: Grant | None = None
    decision: int | None = None
    submission: int | None = None

    @cached_property
    def shown(self) -> AccessRequest | None:
        """Return the request shown in the list; for a person with access, the one that gave it."""
        if self.place == Place.ACCEPTED and self.grant is not None:
            return self.grant.request
        return self.request

    @property
    def id(self) -> str:
        """Return the entry's id, the value of `requestId`."""
        if self.shown is not None:
            return str(self.shown.pk)
        return f"{GRANT_ID}{self.grant.pk}" if self.grant else ""

    @cached_property
    def asked_at(self) -> datetime | None:
        """Return when the request was made; for access without a request, when it was given."""
        if self.shown is not None:
            return self.shown.submitted_at
        return self.grant.starts_at if self.grant else None

    @cached_property
    def settled_at(self) -> datetime | None:
        """Return when the last decision was made or the access expired; None while it waits."""
        if self.place == Place.ACCEPTED and self.grant is not None:
            approved_at = self.shown.closed_at if self.shown else None
            return max(self.grant.starts_at, approved_at or self.grant.starts_at)
        if self.place == Place.PENDING:
            return None
        if self.grant is not None and (self.request is None or is_older(self.request, self.grant)):
            return self.grant.revoked_at or self.grant.ends_at
        return self.request.closed_at if self.request else None


class Named(NamedTuple):
    """What lists show of a person: plain fields, since a thousand model objects take ten times as long."""

    pk: int
    username: str
    full_name: str
    email: str


@dataclass(frozen=True)
class ListedEntry:
    """An entry with everything that a list shows about it."""

    entry: ReviewEntry
    person: Named
    request: AccessRequest | None  # with its form
    granted_by: Named | None

    @property
    def asked(self) -> bool:
        """Return whether the person asked; a request created later for a given access does not count."""
        request = self.request
        return request is not None and (
            request.submitted_at is None or request.created_at <= request.submitted_at
        )


def place_of(request: AccessRequest | None, grant: Grant | None) -> Place | None:
    """Return the list that follows from a person's newest counting request and newest grant."""
    return PLACES[situation(request, grant, timezone.now())]


def review_entry(person: Any, model: GatedModel) -> ReviewEntry:
    """Return where this person stands now; without a place if they never asked."""
    found = next(iter(review_entries(model, [person.pk])), ReviewEntry(person.pk))
    if found.request is None:
        return found
    request = AccessRequest.objects.filter(pk=found.request.pk)
    newest = request.values_list(Max("decisions"), Max("submissions__number"))[0]
    return ReviewEntry(found.person_id, found.place, found.request, found.grant, *newest)


def person_of(model: GatedModel, entry_id: str) -> Any:
    """Return the person that an entry's id names; None if there is none, or another entry has replaced it."""
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
    return person if review_entry(person, model).id == entry_id else None


def review_entries(model: GatedModel, people: Iterable[int]) -> list[ReviewEntry]:
    """Return where each of these people stands, by primary key; people without a request or grant are left out."""
    people = list(people)
    if not people:
        return []
    requests = {one.applicant_id: one for one in _newest_requests(model=model.pk, people=people)}
    grants = {grant.user_id: grant for grant in _newest_grants(model=model.pk, people=people)}
    # Most grants are of the person's newest request, which was read above; read the other requests in one query.
    read = {request.pk: request for request in requests.values()}
    named = {grant.request_id for grant in grants.values() if grant.request_id}
    if missing := named - read.keys():
        rows = AccessRequest.objects.only(*OF_REQUESTS).filter(AnyOf(F("pk"), missing))
        read |= {request.pk: request for request in rows}
    for grant in grants.values():
        if grant.request_id:
            grant.request = read[grant.request_id]
    both = {person: (requests.get(person), grants.get(person)) for person in requests.keys() | grants.keys()}
    return [ReviewEntry(person, place_of(*pair), *pair) for person, pair in both.items()]


def order(entry: ReviewEntry) -> tuple[datetime, int]:
    """Return a sort key that does not change when other entries leave the list."""
    return entry.asked_at or timezone.now(), entry.person_id


def listed_entries(entries: Iterable[ReviewEntry], *, answers: bool = True) -> list[ListedEntry]:
    """Return the entries with people and who gave access; with `answers`, also with their forms."""
    entries = list(entries)
    keys = {entry.person_id for entry in entries}
    keys |= {entry.grant.granted_by_id for entry in entries if entry.grant and entry.grant.granted_by_id}
    rows = get_user_model().objects.filter(AnyOf(F("pk"), keys)).values_list(*OF_PEOPLE)
    people = {
        pk: Named(pk, username, full_name(first, last, username), email)
        for pk, username, first, last, email in rows
    }
    if answers:  # in one query, since many requests share a form
        requests = [entry.shown for entry in entries if entry.shown]
        forms = FormVersion.objects.defer("texts").in_bulk({request.form_id for request in requests})
        for request in requests:
            request.form = forms[request.form_id]
    listed = list[ListedEntry]()
    for entry in entries:
        grant = entry.grant if entry.place == Place.ACCEPTED else None
        granter = people.get(grant.granted_by_id) if grant and grant.granted_by_id else None
        listed.append(ListedEntry(entry, people[entry.person_id], entry.shown, granter))
    return listed


def _requests_of(model: int, people: list[int]) -> QuerySet[AccessRequest]:
    asked = AccessRequest.objects.filter(AnyOf(F("applicant_id"), people), model=model)
    counted = asked.filter(submitted_at__isnull=False).exclude(state__in=UNCOUNTED)
    return counted.order_by("applicant_id", *NEWEST_FIRST).distinct("applicant_id").only(*OF_REQUESTS)


def _grants_of(model: int, people: list[int]) -> QuerySet[Grant]:
    given = Grant.objects.filter(AnyOf(F("user_id"), people), model=model)
    return given.order_by("user_id", "-pk").distinct("user_id").only(*OF_GRANTS)


_of_a_page = {"model": SAMPLE_NUMBER, "people": SAMPLE_NUMBERS}
_newest_requests, _newest_grants = (
    CompiledQuery(_requests_of, **_of_a_page),
    CompiledQuery(_grants_of, **_of_a_page),
)
