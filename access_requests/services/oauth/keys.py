"""An issuer's public keys: fetched from its own host, kept, and asked for again only now and then."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from datetime import timedelta
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.db import transaction
from django.utils import timezone

from access_requests.models import IssuerKeys
from access_requests.services.oauth.errors import OAuthError

log = logging.getLogger(__name__)

FRESH = timedelta(hours=6)  # keys that were taken away are believed for so long at most
AGAIN = timedelta(minutes=1)  # between two fetches, whoever asks: unknown keys must not become a flood
LARGEST = 256 * 1024
PATIENCE = 5.0  # seconds for one step of a fetch, and for the whole body
MOST_KEYS = 50
SHORTEST_RSA = 2048
DISCOVERY = "/.well-known/openid-configuration"


class Unreachable(Exception):
    """The issuer's keys could not be had; the text says why."""


def key_of(issuer: str, *, kid: str, algorithm: str) -> jwt.PyJWK:
    """The issuer's key of that id for that algorithm; one that is not known is looked for again, but not at every call."""
    row, _ = IssuerKeys.objects.get_or_create(issuer=issuer)
    key = _chosen(row, kid, algorithm)
    if key is None or row.fetched_at is None or row.fetched_at < timezone.now() - FRESH:
        row = _fetched_again(issuer, seen=row)
        key = _chosen(row, kid, algorithm)
    if row.fetched_at is None or row.fetched_at < timezone.now() - FRESH:
        raise OAuthError(
            "temporarily_unavailable",
            f"The keys of {issuer} cannot be fetched: try again in a minute.",
            status=503,
        )
    if key is None:
        raise OAuthError("invalid_grant", f"The identity is signed with a key that {issuer} does not show.")
    return key


def _chosen(row: IssuerKeys, kid: str, algorithm: str) -> jwt.PyJWK | None:
    found = next((key for key in row.keys if key["kid"] == kid), None)
    return usable_key(found, algorithm) if found else None


def usable_key(key: Any, algorithm: str) -> jwt.PyJWK | None:
    """A public signing key that fits the algorithm and is long enough, else None."""
    if not isinstance(key, dict) or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
        return None
    try:
        made = jwt.PyJWK(key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256":
        fits = isinstance(made.key, RSAPublicKey) and made.key.key_size >= SHORTEST_RSA
    else:
        fits = isinstance(made.key, EllipticCurvePublicKey) and isinstance(made.key.curve, SECP256R1)
    return made if fits else None


def _fetched_again(issuer: str, *, seen: IssuerKeys) -> IssuerKeys:
    """The row after one fetch: by us, or by somebody while we waited, or by nobody if the last try was a moment ago."""
    with transaction.atomic():
        row = IssuerKeys.objects.select_for_update().get(issuer=issuer)
        now = timezone.now()
        if row.tried_at != seen.tried_at or (row.tried_at and row.tried_at > now - AGAIN):
            return row
        row.tried_at = now
        try:
            row.keys, row.fetched_at = fetch_keys(issuer), now
        except Unreachable as error:
            log.warning("The keys of an issuer could not be fetched: %s", error)
        row.save(update_fields=["keys", "tried_at", "fetched_at"])
        return row


def fetch_keys(issuer: str) -> list[dict[str, Any]]:
    """The issuer's keys by its openid-configuration. Both addresses are the issuer's own: same scheme, host and port."""
    found = _get_json(issuer + DISCOVERY)
    if found.get("issuer") != issuer:
        raise Unreachable(f"{issuer} calls itself {str(found.get('issuer'))[:200]}")
    address = str(found.get("jwks_uri"))
    try:
        own = _origin(address) == _origin(issuer)
    except ValueError:
        own = False
    if not own:
        raise Unreachable(f"{issuer} names keys at another host: {address[:200]}")
    keys = _get_json(address).get("keys")
    if not isinstance(keys, list):
        raise Unreachable(f"{address} holds no keys")
    return [
        key
        for key in keys[:MOST_KEYS]
        if isinstance(key, dict) and isinstance(key.get("kid"), str) and "d" not in key
    ]


def _origin(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: an issuer says its addresses itself."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


def _get_json(address: str) -> dict[str, Any]:
    """A small JSON object from an address of an issuer that the operator named."""
    deadline, body = time.monotonic() + PATIENCE, b""
    try:
        with OPENER.open(address, timeout=PATIENCE) as answer:
            while chunk := answer.read1(65_536):
                body += chunk
                if len(body) > LARGEST or time.monotonic() > deadline:
                    raise Unreachable(f"{address} answers with too much, or too slowly")
        found = json.loads(body)
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise Unreachable(f"{address}: {error}") from error
    if not isinstance(found, dict):
        raise Unreachable(f"{address} is no JSON object")
    return found
