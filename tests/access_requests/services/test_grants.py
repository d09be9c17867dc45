"""Grants that end are recorded in the log in batches, the earliest first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.models import Event, Grant
from access_requests.services import grants
from access_requests.services.grants import close_ended_grants


@pytest.fixture
def ended(make_model: Callable[..., Any], make_person: Callable[..., Any]) -> list[Grant]:
    """Return five grants that have ended, the latest first."""
    model, now = make_model(), timezone.now()
    return [
        Grant.objects.create(
            model=model,
            user=make_person(f"person{number}"),
            source="operator",
            starts_at=now - timedelta(days=9),
            ends_at=now - timedelta(days=number),
        )
        for number in range(1, 6)
    ]


def test_all_that_ended_are_closed_a_few_at_a_time(
    ended: list[Grant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "AT_ONCE", 2)

    assert close_ended_grants() == 5
    assert close_ended_grants() == 0
    told = Event.objects.filter(kind="grant.expired").order_by("pk").values_list("grant", flat=True)
    assert list(told) == [grant.pk for grant in reversed(ended)]


def test_turn_that_is_over_leaves_the_rest_to_the_next_one(
    ended: list[Grant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "AT_ONCE", 2)

    assert close_ended_grants(turn=0) == 2
    assert Grant.objects.filter(closed_at=None).count() == 3
    assert [close_ended_grants(turn=0) for _ in range(3)] == [2, 1, 0]
