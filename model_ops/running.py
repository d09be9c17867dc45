"""The bodies that this process is sending: how many, and whether their right still holds.

A thread looks at the grants behind them every few seconds while there are any, and closes the connection of a
body whose grant or token has ended, also when the kernel is sending it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from access_requests.models import AccessToken, Grant

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0  # seconds


class Sending(Protocol):
    """A body as seen from here."""

    grant_id: int | None
    token_id: int | None
    counted: bool

    def cut(self) -> None:
        """Closes its connection."""


class Running:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: set[Sending] = set()
        self._watching = False

    def enter(self, body: Sending) -> bool:
        """False if there is no room for one more that counts."""
        with self._lock:
            if body.counted and sum(one.counted for one in self._bodies) >= settings.GATEHOUSE_MOST_BODIES:
                return False
            self._bodies.add(body)
            if body.grant_id is not None and body.counted and not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="grants-of-running-downloads", daemon=True).start()
        return True

    def leave(self, body: Sending) -> None:
        with self._lock:
            self._bodies.discard(body)

    def _watch(self) -> None:
        """Ends when there is nothing left to look after."""
        while True:
            time.sleep(LOOK_EVERY)
            with self._lock:
                watched = [body for body in self._bodies if body.grant_id is not None and body.counted]
                if not watched:
                    self._watching = False
                    return
            try:
                for body in without_right(watched):
                    body.cut()
            except Exception:
                log.exception("The grants of running downloads could not be looked at; they go on.")
            finally:
                connection.close()


def without_right(bodies: Iterable[Sending]) -> list[Sending]:
    """Those whose grant or token has ended since they began; two queries."""
    bodies, now = list(bodies), timezone.now()
    grants = Grant.objects.filter(revoked_at=None, ends_at__gt=now, user__is_active=True)
    live_grants = set(grants.filter(pk__in={body.grant_id for body in bodies}).values_list("pk", flat=True))
    tokens = AccessToken.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)
    asked = {body.token_id for body in bodies if body.token_id}
    live_tokens = {None, *tokens.filter(pk__in=asked).values_list("pk", flat=True)}
    return [body for body in bodies if body.grant_id not in live_grants or body.token_id not in live_tokens]


running = Running()
