"""Limit requests per minute of a token, of an address, and of all callers without a token.

The cache counts every request of the protocol, but not pages for people. While it is unavailable, nothing is
counted.
"""

from __future__ import annotations

import hashlib
import time

from django.conf import settings
from django.http import HttpRequest

from access_requests import counters
from access_requests.addresses import whole_network
from access_requests.services import tokens
from model_ops.hub.refusals import Refused, busy

WINDOW = 60  # seconds
SHARES = 200  # of 12,000 requests, an address without a token still gets 60 after others have used them all
AWAY = 10.0  # seconds without asking the cache after it failed, so that requests don't wait for it
WHOSE = {
    "token": "with this token",
    "address": "from your address",
    "anonymous": "without a token, from everyone together (send a token and you are counted alone)",
}
_away_until = 0.0


def check(request: HttpRequest, *, waits: bool) -> None:
    """Count one request before any work is done for it; raise a 429 if there are too many in this minute.

    The 429 has the whole seconds until the minute ends. A request counts for its address, and for its token
    or for all callers without one. `waits`: clients wait and retry after a 429 here. Those requests are
    counted separately, so that a client that waits for files is not refused where it would give up.

    A token is counted as sent, so a flood of wrong ones costs no query. Text that cannot be a token of this
    portal counts as no token: otherwise each new value would have its own count.
    """
    kind = "files" if waits else "calls"
    _spend_one(kind, "address", _sender_network(request), settings.GATEHOUSE_ADDRESS_RATE)
    secret = secret_sent(request)
    if tokens.looks_right(secret):
        digest = hashlib.sha256(secret.encode()).hexdigest()[:32]
        _spend_one(kind, "token", digest, settings.GATEHOUSE_TOKEN_RATE)
    else:
        _spend_anonymous(kind, request)


def check_unknown(request: HttpRequest) -> None:
    """Count a request with an unaccepted token among those without one: made-up tokens gain nothing."""
    if not getattr(request, "counted_as_anonymous", False):
        _spend_anonymous("calls", request)


def secret_sent(request: HttpRequest) -> str:
    """Return the secret of a Bearer header; "" without one."""
    scheme, _, secret = request.headers.get("Authorization", "").strip().partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _sender_network(request: HttpRequest) -> str:
    return whole_network(getattr(request, "client_address", None) or "unknown")


def _spend_anonymous(kind: str, request: HttpRequest) -> None:
    """Count a request without a token in the count for all of them.

    Once that is used up, each address still has a small share, so that a few busy ones cannot lock out the
    rest.
    """
    request.counted_as_anonymous = True  # type: ignore[attr-defined]
    most = settings.GATEHOUSE_ANONYMOUS_RATE
    if not most or _count_request(_counter_key(kind, "anonymous", "all")) <= most:
        return
    if _count_request(_counter_key(kind, "share", _sender_network(request))) > max(1, most // SHARES):
        raise _too_many("anonymous", most)


def _spend_one(kind: str, name: str, who: str, most: int) -> None:
    if most and _count_request(_counter_key(kind, name, who)) > most:
        raise _too_many(name, most)


def _counter_key(kind: str, name: str, who: str) -> str:
    return f"rate:{kind}:{name}:{who}:{int(time.time()) // WINDOW}"


def _count_request(key: str) -> int:
    """Return the count in this window, including this request; 0 while the cache is unavailable."""
    global _away_until
    if time.monotonic() < _away_until:
        return 0
    count = counters.count(key, seconds=2 * WINDOW)
    if count is None:
        _away_until = time.monotonic() + AWAY
    return count or 0


def _too_many(name: str, most: int) -> Refused:
    whose, seconds = WHOSE[name], WINDOW - int(time.time()) % WINDOW
    refused = busy(f"More than {most} requests in a minute {whose}:", seconds)
    refused.code = "TooManyRequests"
    refused.headers["RateLimit"] = f'"{name}";r=0;t={seconds}'
    refused.headers["RateLimit-Policy"] = f'"fixed window";"{name}";q={most};w={WINDOW}'
    return refused
