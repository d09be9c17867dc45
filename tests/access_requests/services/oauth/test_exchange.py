from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client
from django.utils import timezone

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.models import AccessToken, Event, TokenExchange, TrustedRepository
from access_requests.services import tokens
from access_requests.services.event_log.append import verify_chain
from access_requests.services.oauth import limits
from access_requests.services.oauth.errors import OAuthError, TooMany
from tests.access_requests.services.oauth.trading import SITE, part, refused, signed_as_it_is, trade
from tests.issuer import Issuer, running_issuer

pytestmark = pytest.mark.django_db


def test_a_job_of_a_trusted_repository_gets_an_hour(
    trusted: TrustedRepository, issuer: Issuer, ada: Any
) -> None:
    issued = trade(issuer.identity(SITE))
    token = tokens.authenticate(issued.secret)
    assert (token.user, token.kind, token.origin) == (ada, TokenKind.USER, TokenOrigin.OIDC)
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(minutes=60)) < timedelta(minutes=1)
    kept = TokenExchange.objects.get()
    assert (kept.token, kept.claims["ref"], kept.claims["actor"]) == (token, "refs/heads/main", "ada")
    assert Event.objects.order_by("-pk").values_list("kind", flat=True)[0] == "trusted.exchanged"
    assert verify_chain().ok


def test_a_curve_key_is_taken(trusted: TrustedRepository, issuer: Issuer) -> None:
    assert trade(issuer.sign(issuer.claims(SITE), kid="curve", algorithm="ES256"))


def test_an_identity_is_exchanged_once(trusted: TrustedRepository, issuer: Issuer) -> None:
    identity = issuer.identity(SITE, jti="same")
    first = trade(identity)
    for again in (identity, issuer.identity(SITE, jti="same")):
        with pytest.raises(OAuthError, match="exchanged before"):
            trade(again)
    assert tokens.authenticate(first.secret)
    assert AccessToken.objects.count() == 1


# What can be wrong with an identity that its issuer really signed.
BAD_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"aud": "https://huggingface.co"}, "audience"),
    ({"aud": f"{SITE}/"}, "audience"),
    ({"aud": SITE.upper()}, "audience"),
    ({"aud": [SITE, "https://evil.example"]}, "not valid|audience"),
    ({"aud": [SITE]}, "not valid|audience"),
    ({"aud": None}, "not valid"),
    ({"aud": {}}, "not valid|audience"),
    ({"iss": "https://token.actions.githubusercontent.com"}, "does not trust"),
    ({"iss": None}, "does not trust"),
    ({"iss": ["x"]}, "does not trust|JSON web token"),
    ({"exp": int(time.time()) - 3600}, "has ended"),
    ({"exp": None}, "not valid"),
    ({"exp": "never"}, "not valid"),
    ({"exp": 10**30}, "not valid|more than a day"),
    ({"exp": int(time.time()) + 900_000}, "more than a day"),
    ({"iat": int(time.time()) + 36_000, "nbf": None}, "not valid"),
    ({"nbf": int(time.time()) + 36_000}, "not valid"),
    ({"iat": None}, "not valid"),
    ({"sub": None}, "not valid"),
    ({"sub": 7}, "not valid"),
    ({"jti": None}, "not valid"),
    ({"jti": ""}, "empty id"),
    ({"jti": 5}, "not valid|no id"),
    ({"repository": None}, "names no repository"),
    ({"repository": "acme"}, "names no repository"),
    ({"repository": ["acme/eval"]}, "claim repository is not text"),
    ({"repository": "acme/eval\n"}, "names no repository|Nobody trusts"),
    ({"repository_id": None}, "names no repository"),
    ({"repository_owner": "eve"}, "contradicts itself"),
    ({"repository_owner": None}, "contradicts itself"),
    ({"repository": "eve/eval", "repository_owner": "acme"}, "contradicts itself"),
    ({"repository": "eve/acme/eval", "repository_owner": "acme"}, "contradicts itself"),
    ({"repository": "eve/eval", "repository_owner": "eve"}, "Nobody trusts"),
    ({"repository": "acme/eval2"}, "Nobody trusts"),
    ({"repository": "acme/EVAL%"}, "names no repository"),
    # A repository claim in another service's format is not accepted here.
    ({"repository": None, "project_path": "acme/eval", "namespace_path": "acme", "project_id": "1"}, "names no"),
    ({"repository": "eve/x", "repository_owner": "eve", "project_path": "acme/eval"}, "Nobody trusts"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), BAD_CLAIMS)
def test_bad_claims_are_refused(
    trusted: TrustedRepository, issuer: Issuer, changes: dict[str, Any], why: str
) -> None:
    claims = {name: value for name, value in (issuer.claims(SITE) | changes).items() if value is not None}
    with pytest.raises(OAuthError, match=why):
        trade(signed_as_it_is(issuer, {"alg": "RS256", "kid": "first"}, claims))
    assert not AccessToken.objects.exists()


def test_a_token_without_signature_is_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    body = part(issuer.claims(SITE))
    for alg in ("none", "None", "NONE", "", None, 5):
        assert "signed with" in refused(f"{part({'alg': alg, 'kid': 'first'})}.{body}.") or alg in {
            "",
            None,
            5,
        }
    good = issuer.identity(SITE)
    assert refused(good.rpartition(".")[0] + ".")
    assert trade(good)


def test_the_public_key_is_no_shared_secret(trusted: TrustedRepository, issuer: Issuer) -> None:
    public = issuer.private["first"].public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.keys[0]).encode(),
    ):
        for alg, hashed in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            signed = f"{part({'alg': alg, 'kid': 'first'})}.{part(issuer.claims(SITE))}"
            signature = base64.urlsafe_b64encode(hmac.new(secret, signed.encode(), hashed).digest())
            assert "signed with" in refused(f"{signed}.{signature.rstrip(b'=').decode()}")


def test_a_key_of_the_token_itself_is_not_believed(trusted: TrustedRepository, issuer: Issuer) -> None:
    with running_issuer() as thief:
        claims = issuer.claims(SITE)
        for header in (
            {"jwk": thief.keys[0]},
            {"jku": f"{thief.url}/keys"},
            {"x5u": f"{thief.url}/keys"},
            {},
        ):
            assert "not valid" in refused(thief.sign(claims, **header))
        assert "does not show" in refused(
            jwt.encode(claims, thief.private["first"], "RS256", {"kid": "thief"})
        )
        assert "does not trust" in refused(thief.identity(SITE))
        assert thief.asked == []


def test_wrong_algorithm_for_a_key_is_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    assert refused(jwt.encode(claims, issuer.private["curve"], "ES256", {"kid": "first"}))
    assert refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": "curve"}))
    assert "signed with" in refused(jwt.encode(claims, issuer.private["first"], "RS512", {"kid": "first"}))


def test_headers_that_change_the_meaning_are_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    good = {"alg": "RS256", "kid": "first"}
    for wrong in ({"crit": ["x"], "x": 1}, {"crit": []}, {"b64": True}, {"b64": False}):
        refused(signed_as_it_is(issuer, good | wrong, claims))
    for kid in (None, 5, ["first"], {}):
        refused(signed_as_it_is(issuer, good | {"kid": kid}, claims))
    assert trade(signed_as_it_is(issuer, good, claims))


@pytest.mark.parametrize("junk", ["", "a", "a.b.c", "...", "é.é.é", "\x01", "e30.e30.e30", "A" * 20_000])
def test_junk_is_refused(trusted: TrustedRepository, issuer: Issuer, junk: str) -> None:
    assert refused(junk)
    assert issuer.asked == []


def test_refused_exchanges_of_an_address_are_bounded(trusted: TrustedRepository, issuer: Issuer) -> None:
    for n in range(5):
        assert trade(issuer.identity(SITE, jti=f"good-{n}"))
    for _ in range(limits.FAILED_EXCHANGES_OF_ADDRESS.most):
        with pytest.raises(OAuthError):
            trade("junk")
    with pytest.raises(TooMany):
        trade(issuer.identity(SITE))
    assert trade(issuer.identity(SITE), address="192.0.2.10")


def test_the_wire_speaks_as_the_client_does(
    client: Client, trusted: TrustedRepository, issuer: Issuer
) -> None:
    asked = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": issuer.identity(SITE),
        "resource": "ada",
    }
    for missing in ("subject_token_type", "subject_token", "resource"):
        without = {name: value for name, value in asked.items() if name != missing}
        answer = client.post("/oauth/token", without, content_type="application/json")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = client.post("/oauth/token", asked, content_type="application/json")
    told = answer.json()
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert (told["token_type"], told["expires_in"]) == ("bearer", 3600)
    assert tokens.authenticate(told["access_token"]).user.username == "ada"
    again = client.post("/oauth/token", asked, content_type="application/json")
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert "hf auth token" in again["X-Error-Message"]
