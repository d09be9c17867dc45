"""Limit the calls to an endpoint, counted in the database so that all workers share one budget."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from access_requests.models import FarSide
from access_requests.services.following.errors import Limited

WINDOW = timedelta(minutes=5)
# The Hub allows 1,000 calls in 5 minutes. Our windows do not start at the same time as its windows, but any 5 minutes
# overlap at most two of ours, so half of the limit in each is always low enough.
CALLS = 500
CALLS_FOR_POLLS = 400  # the rest is for decisions: a poll can wait


def spend(endpoint: str, *, urgent: bool) -> None:
    """Count one call. Raises `Limited` with the seconds to wait; urgent calls may use the whole window."""
    now, most = timezone.now(), CALLS if urgent else CALLS_FOR_POLLS
    side, _ = FarSide.objects.get_or_create(endpoint=endpoint)
    fresh = Q(window_started_at__lte=now - WINDOW)
    free = Q(closed_until=None) | Q(closed_until__lte=now)
    spent = FarSide.objects.filter(free, fresh | Q(calls__lt=most), pk=side.pk).update(
        calls=Case(When(fresh, then=Value(1)), default=F("calls") + 1),
        window_started_at=Case(When(fresh, then=Value(now)), default=F("window_started_at")),
    )
    if not spent:
        side.refresh_from_db()
        ends = max(filter(None, [side.closed_until, side.window_started_at + WINDOW * (side.calls >= most)]))
        raise Limited("the call limit for it is reached", max(1, round((ends - now).total_seconds())))


def close(endpoint: str, seconds: int) -> None:
    """Stop all calls to the endpoint for these seconds, because it asked for that."""
    until = timezone.now() + timedelta(seconds=seconds)
    side, _ = FarSide.objects.get_or_create(endpoint=endpoint)
    FarSide.objects.filter(Q(closed_until=None) | Q(closed_until__lt=until), pk=side.pk).update(
        closed_until=until
    )
