"""The first submission of a request is recorded once, and decides its place in the queue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from access_requests.access import access
from access_requests.access.access import access_of, position_in_words, queue_position
from access_requests.enums import Outcome, ReasonCode
from access_requests.models import AccessRequest, GatedModel
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.submit import (
    appeal_request,
    start_request,
    submit_request,
    withdraw_request,
)
from tests.conftest import TULU_ANSWERS

pytestmark = pytest.mark.django_db


@pytest.fixture
def rita(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    rita = make_person("rita")
    assign_role(model=make_model(), user=rita, role="reviewer")
    return rita


def earlier(request: AccessRequest) -> AccessRequest:
    """Return the request as if it had been submitted three days ago."""
    moment = request.submitted_at - timedelta(days=3)
    AccessRequest.objects.filter(pk=request.pk).update(submitted_at=moment, first_submitted_at=moment)
    request.refresh_from_db()
    return request


def again(request: AccessRequest) -> AccessRequest:
    shown = list(request.model.licence_versions.values_list("pk", flat=True))
    return submit_request(
        request=request, applicant=request.applicant, answers=TULU_ANSWERS, licences_shown=shown
    )


def test_draft_has_none_and_submission_sets_it(rita: Any, make_person: Any, submit: Any) -> None:
    model = GatedModel.objects.get()
    draft = start_request(model=model, applicant=make_person("sam"))
    request = submit(make_person("ada"), model)
    assert (draft.first_submitted_at, request.first_submitted_at) == (None, request.submitted_at)
    assert withdraw_request(request=draft, applicant=draft.applicant).first_submitted_at is None


def test_changes_keep_it_and_the_place(rita: Any, make_person: Any, submit: Any) -> None:
    model = GatedModel.objects.get()
    first, other = earlier(submit(make_person("ada"), model)), submit(make_person("sam"), model)
    since = first.first_submitted_at
    record_decision(request=first, reviewer=rita, outcome=Outcome.CHANGES_REQUESTED, words="More, please.")
    first.refresh_from_db()
    first = again(first)
    assert (first.first_submitted_at, first.submitted_at > other.submitted_at) == (since, True)
    assert (queue_position(first), queue_position(other)) == (1, 2)


def test_appeal_keeps_it_and_the_place(rita: Any, make_person: Any, submit: Any) -> None:
    model = GatedModel.objects.get()
    first, other = earlier(submit(make_person("ada"), model)), submit(make_person("sam"), model)
    since = first.first_submitted_at
    record_decision(
        request=first, reviewer=rita, outcome=Outcome.REJECTED, words="No.", reason_code=ReasonCode.values[1]
    )
    first = appeal_request(request=first, applicant=first.applicant, words="Please look again.")
    assert (first.first_submitted_at, queue_position(first), queue_position(other)) == (since, 1, 2)


def test_places_are_counted_up_to_a_bound(
    rita: Any, make_person: Any, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MOST_POSITIONS", 2)
    model = GatedModel.objects.get()
    requests = [submit(make_person(f"p{n}"), model) for n in range(4)]
    assert [queue_position(request) for request in requests] == [1, 2, 3, 3]
    assert [position_in_words(place) for place in (1, 2, 3)] == ["1", "2", "after the first 2"]
    assert "(position after the first 2 in the queue)" in access_of(requests[3].applicant, model).sentence


def test_database_refuses_a_submitted_request_without_it(rita: Any, make_person: Any, submit: Any) -> None:
    request = submit(make_person("ada"), GatedModel.objects.get())
    with pytest.raises(IntegrityError, match="request_submitted_has_first_date"), transaction.atomic():
        AccessRequest.objects.filter(pk=request.pk).update(first_submitted_at=None)
