"""How many requests a minute a token and an address may make, counted in the cache.

Spoken only where clients wait and try again: GET of bodies and paged lists. A cache that is away counts nothing.
"""

from __future__ import annotations

import hashlib
import time

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest

from model_ops.hub.refusals import Refused, busy

WINDOW = 60  # seconds
AWAY = 10.0  # seconds that a cache is left alone after it did not answer, so that nobody waits for it
_away_until = 0.0


def check(request: HttpRequest) -> None:
    """Counts one request for its token and its address; raises a 429 with the whole seconds until the minute ends."""
    now = int(time.time())
    for name, who, most in _counted(request):
        if most and _count(f"rate:{name}:{who}:{now // WINDOW}") > most:
            raise _too_many(name, most, WINDOW - now % WINDOW)


def _counted(request: HttpRequest) -> list[tuple[str, str, int]]:
    """The token as it was sent, before anybody looks it up: a flood of wrong ones costs no query."""
    address = getattr(request, "client_address", None) or "unknown"
    counted = [("address", address, settings.GATEHOUSE_ADDRESS_RATE)]
    sent = request.headers.get("Authorization", "")
    if sent:
        digest = hashlib.sha256(sent.encode("utf-8", "replace")).hexdigest()[:32]
        counted.append(("token", digest, settings.GATEHOUSE_TOKEN_RATE))
    return counted


def _count(key: str) -> int:
    """How often it was counted in this window, this time included; 0 while the cache is away."""
    global _away_until
    if time.monotonic() < _away_until:
        return 0
    try:
        count = cache.incr(key)
    except ValueError:  # the first of this window
        count = 1 if cache.add(key, 1, timeout=2 * WINDOW) else cache.incr(key)
    if count is None:
        _away_until = time.monotonic() + AWAY
    return int(count or 0)


def _too_many(name: str, most: int, seconds: int) -> Refused:
    whose = {"token": "with this token", "address": "from your address"}[name]
    refused = busy(f"More than {most} requests in a minute {whose}:", seconds)
    refused.code = "TooManyRequests"
    refused.headers["RateLimit"] = f'"{name}";r=0;t={seconds}'
    refused.headers["RateLimit-Policy"] = f'"fixed window";"{name}";q={most};w={WINDOW}'
    return refused
