"""For every pair of states, the table's transitions happen and all others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from access_requests.enums import CLOSED_STATES, RequestState
from access_requests.errors import Conflict
from access_requests.models import AccessRequest, Event
from access_requests.services.requests.transitions import ALLOWED, MOVES, as_mermaid, move

WHO = ("applicant", "reviewer", "policy")


def put_in(request: AccessRequest, state: RequestState) -> AccessRequest:
    now = timezone.now()
    AccessRequest.objects.filter(pk=request.pk).update(
        state=state,
        submitted_at=now,
        first_submitted_at=now,
        appealed_at=now,
        closed_at=now if state in CLOSED_STATES else None,
    )
    request.refresh_from_db()
    return request


@pytest.mark.parametrize("source", RequestState)
@pytest.mark.parametrize("target", RequestState)
def test_move_follows_the_table_for_every_pair(
    source: RequestState,
    target: RequestState,
    make_person: Callable[..., Any],
    make_model: Callable[..., Any],
    submit: Any,
) -> None:
    request = submit(make_person("ada"), make_model())
    for who in WHO:
        put_in(request, source)
        before = Event.objects.count()
        rule = ALLOWED.get((source, target))
        if rule is not None and who in rule.makers:
            move(request, target, who=who, actor=request.applicant)
            request.refresh_from_db()
            assert request.state == target
            assert (request.closed_at is not None) == (target in CLOSED_STATES)
            assert Event.objects.latest("pk").kind == rule.event
        else:
            with pytest.raises(Conflict, match=f"#{request.pk}"):
                move(request, target, who=who, actor=request.applicant)
            request.refresh_from_db()
            assert request.state == source
            assert Event.objects.count() == before


def test_table_names_each_move_once() -> None:
    assert len(ALLOWED) == len(MOVES)
    assert {who for m in MOVES for who in m.makers} == set(WHO)


def test_picture_shows_every_move_and_every_state() -> None:
    picture = as_mermaid()
    assert all(f"{m.source.value} --> {m.target.value}: {m.who}" in picture for m in MOVES)
    assert all(state.value in picture for state in RequestState)


@pytest.mark.parametrize(
    "broken",
    [
        {"state": RequestState.SUBMITTED, "submitted_at": None},
        {"state": RequestState.APPROVED, "closed_at": None},
        {"state": RequestState.IN_REVIEW, "closed_at": timezone.now()},
        {"state": RequestState.APPEALED, "closed_at": None, "appealed_at": None},
    ],
)
def test_database_refuses_state_without_its_dates(
    broken: dict[str, Any], make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    request = submit(make_person("ada"), make_model())
    with pytest.raises(IntegrityError), transaction.atomic():
        AccessRequest.objects.filter(pk=request.pk).update(**broken)


def test_database_refuses_a_second_open_request(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    request = submit(make_person("ada"), make_model())
    with pytest.raises(IntegrityError), transaction.atomic():
        AccessRequest.objects.create(model=request.model, applicant=request.applicant, form=request.form)
