"""`GET /healthz`: database, broker, workers and clock, for supervisors and load balancers."""

from __future__ import annotations

import threading
import time

import psycopg
import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from portal.signs import CLOCK, signs

NEEDED = ("database", "broker", "worker", CLOCK)

CONNECT_WITHIN = 2  # seconds
HOLDS = 1.0  # seconds for which an answer of the database is reused


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 if database, broker, the default worker and the clock are well, or else 503.

    Workers and clock are well if they gave a sign in the last 30 seconds. Email, remotes and recovery are
    listed but may be missing: pages and decisions do not need them.
    """
    database = pulse.beats()
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1) as client:
            broker = bool(client.ping())
    except redis.RedisError:
        broker = False
    parts = {"database": database, "broker": broker, **signs()}
    ok = all(parts[name] for name in NEEDED)
    answer = JsonResponse(
        {"ok": ok, **parts}, status=200 if ok else 503, headers={"Cache-Control": "no-store"}
    )
    answer._has_been_logged = True  # type: ignore[attr-defined]  # Django's mark: a 503 here is an answer, no error
    return answer


class Pulse:
    """A check that the database accepts connections, made outside of the pool at most once a second.

    Checks run one at a time. So there is an answer while every connection of the pool is in use, and
    strangers who ask often cost no more than one.
    """

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._well = False
        self._asked_at = float("-inf")

    def beats(self) -> bool:
        """Return the latest result.

        While another thread is checking, return the previous one; wait only for the very first.
        """
        known = self._asked_at > float("-inf")
        if time.monotonic() - self._asked_at < HOLDS or not self._asking.acquire(blocking=not known):
            return self._well
        try:
            if time.monotonic() - self._asked_at >= HOLDS:
                self._well = _database_lets_us_in()
                self._asked_at = time.monotonic()
        finally:
            self._asking.release()
        return self._well


pulse = Pulse()


def _database_lets_us_in() -> bool:
    """Connect to the database.

    A new server process answers, and it has read the database's tables: that is enough.
    """
    parameters = connection.get_connection_params() | {"connect_timeout": CONNECT_WITHIN}
    try:
        psycopg.connect(**parameters).close()
    except psycopg.Error:
        return False
    return True
