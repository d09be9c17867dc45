"""Fetch an issuer's public keys from its own host, and cache them."""

from __future__ import annotations

import io
import logging
import socket
import time
import urllib.error
import urllib.request
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from access_requests.models import IssuerKeys
from access_requests.services.oauth.errors import OAuthError
from access_requests.strict_json import read_json

log = logging.getLogger(__name__)

RENEWED = timedelta(hours=1)  # after this time the keys are fetched again; known keys keep working
FRESH = timedelta(hours=6)  # removed keys are accepted for this long at most
AGAIN = timedelta(minutes=1)  # between two fetches for all callers, so that unknown keys cause no flood
PAUSES = (0.05, 0.1, 0.2, *[0.4] * 30)  # seconds between checks of another process's fetch: 12 in total
LARGEST = 256 * 1024
PATIENCE = 5.0  # seconds for connecting, for the TLS handshake, and for the whole answer
MOST_KEYS = 50
LONGEST_MEMBER = 2048  # characters of a key's member; an RSA key of 8192 bits has 1366
SHORTEST_RSA, LONGEST_RSA = 2048, 8192  # bits
MEMBERS = ("kid", "kty", "alg", "use", "n", "e", "crv", "x", "y")
DISCOVERY = "/.well-known/openid-configuration"


class Unreachable(Exception):
    """The issuer's keys could not be fetched; the text says why."""


def key_of(issuer: str, *, kid: str, algorithm: str) -> jwt.PyJWK:
    """Return the issuer's key with that id for that algorithm; an unknown id makes it fetch again, but rarely.

    If several callers need the keys, one fetches them outside of any transaction, and the others wait for the
    row.
    """
    row, _ = IssuerKeys.objects.get_or_create(issuer=issuer)
    if not _is_younger(row, RENEWED) or _stored_key(row, kid, algorithm) is None:
        row = _fetch_again(row)
    for pause in PAUSES:
        if _believed_key(row, kid, algorithm) or not _is_fetched_now(row):
            break
        time.sleep(pause)
        row = IssuerKeys.objects.get(pk=row.pk)
    if key := _believed_key(row, kid, algorithm):
        return key
    failed = row.fetched_at is not None and (row.tried_at or row.fetched_at) > row.fetched_at
    if failed or not _is_younger(row, FRESH) or _is_fetched_now(row):
        raise OAuthError(
            "temporarily_unavailable",
            f"The keys of {issuer} cannot be fetched: try again in a minute.",
            status=503,
        )
    raise OAuthError("invalid_grant", f"The identity is signed with a key that {issuer} does not show.")


def _is_younger(row: IssuerKeys, age: timedelta) -> bool:
    return row.fetched_at is not None and row.fetched_at >= timezone.now() - age


def _is_fetched_now(row: IssuerKeys) -> bool:
    return row.fetching_until is not None and row.fetching_until > timezone.now()


def _believed_key(row: IssuerKeys, kid: str, algorithm: str) -> jwt.PyJWK | None:
    return _stored_key(row, kid, algorithm) if _is_younger(row, FRESH) else None


def _stored_key(row: IssuerKeys, kid: str, algorithm: str) -> jwt.PyJWK | None:
    found = next((key for key in row.keys if key["kid"] == kid), None)
    return usable_key(found, algorithm) if found else None


def usable_key(key: Any, algorithm: str) -> jwt.PyJWK | None:
    """Return a public signing key that fits the algorithm and is long enough, else None."""
    if not isinstance(key, dict) or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
        return None
    try:
        made = jwt.PyJWK(key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256":
        fits = isinstance(made.key, RSAPublicKey) and SHORTEST_RSA <= made.key.key_size <= LONGEST_RSA
    else:
        fits = isinstance(made.key, EllipticCurvePublicKey) and isinstance(made.key.curve, SECP256R1)
    return made if fits else None


def _fetch_again(row: IssuerKeys) -> IssuerKeys:
    """Return the row, with keys fetched again unless another process does it or someone just tried."""
    now = timezone.now()
    due = Q(tried_at=None) | Q(tried_at__lte=now - AGAIN)
    # Durable, because a caller's transaction would keep the row locked during the fetch.
    with transaction.atomic(durable=True):
        claimed = IssuerKeys.objects.filter(due, pk=row.pk).update(tried_at=now, fetching_until=now + AGAIN)
    if not claimed:
        return IssuerKeys.objects.get(pk=row.pk)
    found: dict[str, Any] = {}
    try:
        found = {"keys": fetch_keys(row.issuer), "fetched_at": now}
    except Unreachable as error:
        log.warning("The keys of an issuer could not be fetched: %s", error)
    finally:
        ours = IssuerKeys.objects.filter(pk=row.pk, tried_at=now)
        ours.update(fetching_until=None, **found)
    return IssuerKeys.objects.get(pk=row.pk)


def fetch_keys(issuer: str) -> list[dict[str, Any]]:
    """Fetch the issuer's keys through its openid-configuration; both must have the issuer's scheme, host and port."""
    named = _get_json(issuer + DISCOVERY)
    if named.get("issuer") != issuer:
        raise Unreachable(f"{issuer} calls itself {str(named.get('issuer'))[:200]}")
    address = str(named.get("jwks_uri"))
    try:
        own = _web_origin(address) == _web_origin(issuer)
    except ValueError:
        own = False
    if not own:
        raise Unreachable(f"{issuer} names keys at another host: {address[:200]}")
    keys = _get_json(address).get("keys")
    if not isinstance(keys, list):
        raise Unreachable(f"{address} holds no keys")
    found = []
    for key in keys[:MOST_KEYS]:
        if not isinstance(key, dict) or "d" in key or "kid" not in key:  # private, unnamed or unknown
            continue
        members = {name: key[name] for name in MEMBERS if name in key}
        if all(
            isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_MEMBER
            for value in members.values()
        ):
            found.append(members)
    return found


def _web_origin(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treat redirects as errors: an issuer states its addresses itself."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Timed(io.RawIOBase):
    """Read headers and body from a socket until one deadline, however slowly they arrive."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._deadline = sock, time.monotonic() + PATIENCE
        self._kept = sock.makefile(
            "rb", buffering=0
        )  # the connection releases its socket before the body is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it answers too slowly")
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._kept.close()
        super().close()


class _TimedAnswer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock))


class _Plain(HTTPConnection):
    response_class = _TimedAnswer


class _Encrypted(HTTPSConnection):
    response_class = _TimedAnswer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Plain, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Encrypted, request)


OPENER = urllib.request.build_opener(_NoRedirect, _Http, _Https)


def _get_json(address: str) -> dict[str, Any]:
    """Return a small JSON object from an address of an allowed issuer; slow answers are refused."""
    try:
        with OPENER.open(address, timeout=PATIENCE) as answer:
            body = answer.read(LARGEST + 1)
        found = read_json(body, largest=LARGEST)
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(f"{address}: {error}") from error
    if not isinstance(found, dict):
        raise Unreachable(f"{address} is no JSON object")
    return found
