"""Delete data after its time, in small batches: sent emails, and sessions and codes that ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef

from access_requests.services import delete_expired

SECONDS = 5.0


def clear_sessions() -> int:
    """Delete sessions that ended GATEHOUSE_KEEP_SIGN_INS_DAYS ago, with their data."""
    ended = delete_expired.kept_since(settings.GATEHOUSE_KEEP_SIGN_INS_DAYS)
    return delete_expired.delete_batch(Session.objects.filter(expire_date__lt=ended), order="expire_date")


def clear_seen_sessions() -> int:
    """Delete the records of where ended sessions were last seen.

    A session lives for SESSION_COOKIE_AGE after its last request, so older rows belong to no live session.
    """
    ended = delete_expired.kept_since(settings.GATEHOUSE_KEEP_SIGN_INS_DAYS)
    seen = UserSession.objects.filter(last_seen_at__lt=ended - timedelta(seconds=settings.SESSION_COOKIE_AGE))
    alive = Session.objects.filter(session_key=OuterRef("session_key"))
    return delete_expired.delete_batch(seen.filter(~Exists(alive)), order="last_seen_at")


STEPS: tuple[Callable[[], int], ...] = (
    delete_expired.end_unfetched_sign_ins,
    delete_expired.clear_device_codes,
    delete_expired.clear_exchanges,
    clear_sessions,
    clear_seen_sessions,
    delete_expired.clear_emails,
)


def clear_ended(*, seconds: float = SECONDS) -> bool:
    """Delete batches of each kind in turn until all is deleted or time is up; return whether more is left."""
    until, steps = time.monotonic() + seconds, STEPS
    while steps:
        if time.monotonic() >= until:
            return True
        steps = tuple(step for step in steps if step())
    return False
