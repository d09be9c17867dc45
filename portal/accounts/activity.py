"""Note in memory when, where and with what browser a session was last seen; write it outside of requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from access_requests.services.tokens.uses import Use, Uses
from portal.accounts.models import User

EVERY = timedelta(minutes=5)


def _update_session(key: str, use: Use) -> None:
    """Update the row that allauth made at sign-in, unless another process has already written a later one."""
    address = {"ip": use.address} if use.address else {}
    rows = UserSession.objects.filter(session_key=key)
    rows.filter(last_seen_at__lt=use.at).update(last_seen_at=use.at, user_agent=use.client, **address)


sights = Uses(_update_session, of="sessions", every=EVERY)


class SessionActivityMiddleware:
    """The middleware that notes when sessions are used, in place of allauth's own.

    allauth's middleware writes a row during every request. Here a session's row is at most five minutes and a
    few seconds out of date; a killed process loses what it has not written.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.session.session_key
        if settings.USERSESSIONS_TRACK_ACTIVITY and key and request.user.is_authenticated:
            client = request.META.get("HTTP_USER_AGENT", "")
            sights.note(key, address=request.client_address, client=client)  # type: ignore[attr-defined]
        return self.get_response(request)


def live_sessions(user: User) -> list[UserSession]:
    """Return the person's sessions that still work, oldest first.

    Unlike allauth's list, it deletes no other sessions.
    """
    rows = {row.session_key: row for row in UserSession.objects.filter(user=user).order_by("created_at")}
    stored = Session.objects.filter(session_key__in=rows, expire_date__gt=timezone.now())
    now = user.get_session_auth_hash()
    live = {one.session_key for one in stored if one.get_decoded().get(HASH_SESSION_KEY) == now}
    return [row for key, row in rows.items() if key in live]
