"""How many requests a minute a token, an address and all callers without a token may make, counted in the cache.

Every request of the protocol is counted; pages for people are not. A cache that is away counts nothing.
"""

from __future__ import annotations

import hashlib
import time

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest

from access_requests.addresses import whole_network
from model_ops.hub.refusals import Refused, busy

WINDOW = 60  # seconds
AWAY = 10.0  # seconds that a cache is left alone after it did not answer, so that nobody waits for it
WHOSE = {
    "token": "with this token",
    "address": "from your address",
    "anonymous": "without a token, from everybody together (send a token and you are counted alone)",
}
_away_until = 0.0


def check(request: HttpRequest, *, waits: bool) -> None:
    """Count one request before any work is done for it; raise a 429 with the whole seconds until the minute ends.

    It counts for its address and its token, or, without a token, for all who send none. `waits`: clients wait and
    ask again after a 429 here. Those requests are counted apart from the rest, so that a client that waits for
    files is not refused where it would give up.
    """
    kind = "files" if waits else "calls"
    for name, who, most in _counted(request):
        _spend(kind, name, who, most)


def check_unknown(request: HttpRequest) -> None:
    """Count a request whose token was not accepted among those without one: made-up tokens gain nothing."""
    if not getattr(request, "counted_as_unknown", False):
        request.counted_as_unknown = True  # type: ignore[attr-defined]
        _spend("calls", "anonymous", "all", settings.GATEHOUSE_ANONYMOUS_RATE)


def _counted(request: HttpRequest) -> list[tuple[str, str, int]]:
    """Return name, key and most of each count. A token counts as it was sent: a flood of wrong ones costs no query."""
    address = whole_network(getattr(request, "client_address", None) or "unknown")
    counted = [("address", address, settings.GATEHOUSE_ADDRESS_RATE)]
    sent = request.headers.get("Authorization", "")
    if not sent:
        return [*counted, ("anonymous", "all", settings.GATEHOUSE_ANONYMOUS_RATE)]
    digest = hashlib.sha256(sent.encode("utf-8", "replace")).hexdigest()[:32]
    return [*counted, ("token", digest, settings.GATEHOUSE_TOKEN_RATE)]


def _spend(kind: str, name: str, who: str, most: int) -> None:
    now = int(time.time())
    if most and _count(f"rate:{kind}:{name}:{who}:{now // WINDOW}") > most:
        raise _too_many(name, most, WINDOW - now % WINDOW)


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
    whose = WHOSE[name]
    refused = busy(f"More than {most} requests in a minute {whose}:", seconds)
    refused.code = "TooManyRequests"
    refused.headers["RateLimit"] = f'"{name}";r=0;t={seconds}'
    refused.headers["RateLimit-Policy"] = f'"fixed window";"{name}";q={most};w={WINDOW}'
    return refused
