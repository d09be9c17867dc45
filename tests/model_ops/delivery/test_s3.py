from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from access_requests.models import GatedModel, Grant
from model_ops.delivery import Ticket
from model_ops.delivery.s3 import link_seconds

DAY = 24 * 3600


@pytest.mark.parametrize(
    ("size", "seconds"),
    [(0, 3600), (5 * 10**9, 3600 + 20_000), (50 * 10**9, 3600 + 200_000), (10**12, 7 * DAY)],
)
def test_link_outlives_a_slow_transfer_and_no_week(size: int, seconds: int) -> None:
    assert link_seconds(size, Ticket(model=GatedModel(), commit="0" * 40)) == seconds


@pytest.mark.parametrize(
    ("left", "least", "most"),
    [
        (timedelta(days=90), 203_600, 203_600),
        (timedelta(hours=2), 7190, 7200),
        (timedelta(minutes=1), 3600, 3600),
    ],
)
def test_link_ends_with_the_grant_but_lives_an_hour(left: timedelta, least: int, most: int) -> None:
    ticket = Ticket(model=GatedModel(), commit="0" * 40, grant=Grant(ends_at=timezone.now() + left))
    assert least <= link_seconds(50 * 10**9, ticket) <= most
