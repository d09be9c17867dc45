"""Every state of a request with every grant: what pages, the Hub's lists and followed repositories report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from django.utils import timezone

from access_requests.access.access import access_of, codes_for
from access_requests.access.review_lists import UNCOUNTED, review_entry
from access_requests.access.situation import ACCESS_CODES, FAR_STATUSES, PLACES, Situation, situation
from access_requests.enums import OPEN_STATES, AccessCode, FarStatus, Place, RequestState
from access_requests.models import AccessRequest, FollowedRepo, Grant, RemotePerson, RemoteRequest
from access_requests.services.following.drift import status_here, with_standing

HOUR = timedelta(hours=1)
NOW = timezone.now()
GRANTS = ["none", "live", "expired", "revoked", "not yet"]
REQUESTS = [None, *((state, older) for state in RequestState for older in (True, False))]

# What all three report, each in its own terms. They differ, on purpose, only in `DIFFERENT`.
ALIKE = {
    AccessCode.GRANTED: (Place.ACCEPTED, FarStatus.ACCEPTED),
    AccessCode.PENDING: (Place.PENDING, FarStatus.PENDING),
    AccessCode.REJECTED: (Place.REJECTED, FarStatus.REJECTED),
    AccessCode.RESET: (Place.RESET, FarStatus.RESET),
    AccessCode.EXPIRED: (Place.RESET, FarStatus.RESET),  # a page says why and since when, the lists do not
    AccessCode.REVOKED: (Place.RESET, FarStatus.RESET),
}
DIFFERENT = {
    Situation.NOTHING,  # a person who never asked is not in any list
    Situation.DRAFT,  # the lists leave out drafts; a page asks the person to submit it
    Situation.CHANGES_REQUESTED,  # the Hub has no such list: it stays pending there, and a page says for whom
    Situation.WITHDRAWN,  # it left the lists here, and a followed repository has no withdrawals
    Situation.APPROVED,  # without its grant: a page sends the person to the form
}


def request_of(state: RequestState, *, older: bool) -> AccessRequest:
    """Return a request that ended before the grant began, or one that was made after the grant."""
    at = NOW - (40 if older else 10) * HOUR
    is_open = state in OPEN_STATES
    return AccessRequest(
        state=state,
        created_at=at,
        submitted_at=at,
        first_submitted_at=at,
        closed_at=None if is_open else at + HOUR,
    )


def grant_of(kind: str) -> Grant | None:
    starts, ends = NOW - 20 * HOUR, NOW - 15 * HOUR
    if kind == "none":
        return None
    if kind == "live":
        ends = NOW + 20 * HOUR
    if kind == "not yet":
        starts, ends = NOW + HOUR, NOW + 20 * HOUR
    return Grant(starts_at=starts, ends_at=ends, revoked_at=ends if kind == "revoked" else None)


def test_every_situation_is_in_every_table_and_every_state_leads_to_one() -> None:
    for table in (ACCESS_CODES, PLACES, FAR_STATUSES):
        assert set(table) == set(Situation)
    reached = {
        situation(asked and request_of(asked[0], older=asked[1]), grant_of(kind), NOW)
        for asked, kind in product(REQUESTS, GRANTS)
    }
    assert reached == set(Situation)


@pytest.mark.parametrize("kind", GRANTS)
@pytest.mark.parametrize("asked", REQUESTS, ids=str)
def test_three_answers_agree_but_where_they_differ_on_purpose(asked: Any, kind: str) -> None:
    request, grant = asked and request_of(asked[0], older=asked[1]), grant_of(kind)
    found = situation(request, grant, NOW)
    if kind == "live":
        assert found == Situation.HAS_ACCESS
    elif request is None:
        assert (found == Situation.NOTHING) == (grant is None)
    elif request.is_open:
        assert found not in {Situation.EXPIRED, Situation.REVOKED}
    elif kind in {"expired", "revoked"} and asked[1]:
        assert found == Situation(kind)
    if found not in DIFFERENT:
        assert (PLACES[found], FAR_STATUSES[found]) == ALIKE[ACCESS_CODES[found]]


def test_those_that_differ_do() -> None:
    for one in DIFFERENT:
        assert (PLACES[one], FAR_STATUSES[one]) != ALIKE.get(ACCESS_CODES[one])


@pytest.mark.django_db
@pytest.mark.parametrize("kind", GRANTS)
@pytest.mark.parametrize("asked", REQUESTS, ids=str)
def test_pages_lists_and_followed_repositories_ask_the_one_rule(
    asked: Any, kind: str, make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    model, ada = make_model(), make_person("ada")
    request, grant = asked and request_of(asked[0], older=asked[1]), grant_of(kind)
    if request is not None:
        _store_request(request, model, ada)
    if grant is not None:
        grant.model, grant.user, grant.source, grant.closed_at = model, ada, "operator", grant.revoked_at
        grant.save(force_insert=True)
    found = situation(request, grant, NOW)
    assert access_of(ada, model).code == codes_for(ada, [model])[model.pk] == ACCESS_CODES[found]
    counted = None if request is not None and request.state in UNCOUNTED else request
    assert review_entry(ada, model).place == PLACES[situation(counted, grant, NOW)]
    if request is not None:
        assert status_here(_remote(request)) == FAR_STATUSES[found]


def _store_request(request: AccessRequest, model: Any, person: Any) -> None:
    at = request.created_at
    request.model, request.applicant, request.form = model, person, model.form
    if request.state == RequestState.DRAFT:
        request.submitted_at = request.first_submitted_at = None
    if request.state == RequestState.APPEALED:
        request.appealed_at = at
    request.save(force_insert=True)
    AccessRequest.objects.filter(pk=request.pk).update(created_at=at)
    request.created_at = at


def _remote(request: AccessRequest) -> RemoteRequest:
    """Return the request's row at a followed repository, as `status_here` reads it."""
    followed = FollowedRepo.objects.create(
        model=request.model, endpoint="https://hub.example.org", far_id="far/tulu"
    )
    person = RemotePerson.objects.create(endpoint=followed.endpoint, name="ada", user=request.applicant)
    at: datetime = request.created_at
    row = RemoteRequest.objects.create(
        followed=followed,
        person=person,
        request=request,
        far_status="pending",
        far_asked_at=at,
        answered_at=at,
    )
    return with_standing(RemoteRequest.objects.filter(pk=row.pk)).get()
