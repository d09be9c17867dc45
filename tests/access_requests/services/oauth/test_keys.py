from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone

from access_requests.errors import RuleError
from access_requests.models import IssuerKeys, TrustedRepository
from access_requests.services.oauth import keys
from access_requests.services.oauth.errors import OAuthError
from portal import environment
from tests.access_requests.services.oauth.trading import SITE, part, refused, trade
from tests.issuer import Issuer

pytestmark = pytest.mark.django_db


def test_a_flood_of_unknown_keys_asks_the_issuer_once(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    for n in range(20):
        refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": f"unknown-{n}"}))
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    assert trade(issuer.identity(SITE))


def test_new_keys_are_found_and_old_ones_forgotten(trusted: TrustedRepository, issuer: Issuer) -> None:
    old_key = issuer.keys[0]
    issuer.keys[:] = [old_key]
    assert trade(issuer.identity(SITE))
    issuer.keys[:] = [key for key in [*issuer.keys] if key is not old_key]
    issuer.add_key("rotated")
    rotated = issuer.sign(issuer.claims(SITE), kid="rotated")
    with pytest.raises(OAuthError, match="does not show"):  # asked for a moment ago
        trade(rotated)
    IssuerKeys.objects.update(tried_at=timezone.now() - keys.AGAIN)
    assert trade(rotated)
    with pytest.raises(OAuthError, match="does not show"):
        trade(issuer.identity(SITE))


def test_keys_are_believed_for_hours_and_not_longer(trusted: TrustedRepository, issuer: Issuer) -> None:
    assert trade(issuer.identity(SITE))
    issuer.answers["/keys"] = lambda: (500, {}, b"")
    long_ago = timezone.now() - keys.FRESH
    IssuerKeys.objects.update(tried_at=long_ago)
    assert trade(issuer.identity(SITE))
    IssuerKeys.objects.update(tried_at=long_ago, fetched_at=long_ago)
    with pytest.raises(OAuthError, match="try again") as raised:
        trade(issuer.identity(SITE))
    assert raised.value.status == 503


def test_weak_and_strange_keys_are_not_used(trusted: TrustedRepository, issuer: Issuer) -> None:
    issuer.add_key("weak", bits=1024)
    issuer.keys += [
        {"kty": "oct", "kid": "shared", "alg": "RS256", "k": part("x")},
        {**issuer.keys[0], "kid": "to-encrypt", "use": "enc"},
        {**issuer.keys[0], "kid": "other-alg", "alg": "RS512"},
        {"kty": "RSA", "kid": "broken", "n": 5, "e": None},
        {"kty": "RSA", "kid": "empty"},
        "no key at all",  # type: ignore[list-item]
    ]
    claims = issuer.claims(SITE)
    for kid in ("shared", "to-encrypt", "other-alg", "broken", "empty"):
        assert "does not show" in refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": kid}))
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        weak = issuer.sign(claims, kid="weak")
    assert "does not show" in refused(weak)
    assert trade(issuer.identity(SITE))


ELSEWHERE = "https://169.254.169.254/keys"


TRICKS: dict[str, tuple[str, Callable[[str], tuple[int, dict[str, str], bytes]]]] = {
    "redirect": ("/keys", lambda url: (302, {"Location": f"{url}/secret"}, b"")),
    "redirect of the configuration": (
        "/.well-known/openid-configuration",
        lambda url: (307, {"Location": f"{url}/secret"}, b""),
    ),
    "another host": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": ELSEWHERE}).encode()),
    ),
    "another port": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": "http://127.0.0.1:1/secret"}).encode()),
    ),
    "a file": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": "file:///etc/passwd"}).encode()),
    ),
    "a bracket": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": "http://[::1"}).encode()),
    ),
    "another name": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url + "/", "jwks_uri": f"{url}/keys"}).encode()),
    ),
    "too large": ("/keys", lambda url: (200, {}, b" " * (keys.LARGEST + 1))),
    "no JSON": ("/keys", lambda url: (200, {}, b"<html>")),
    "deep JSON": ("/keys", lambda url: (200, {}, b"[" * 100_000)),
    "no object": ("/keys", lambda url: (200, {}, b"[]")),
    "no list": ("/keys", lambda url: (200, {}, b'{"keys": {}}')),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_an_issuer_cannot_lead_elsewhere(trusted: TrustedRepository, issuer: Issuer, trick: str) -> None:
    path, answer = TRICKS[trick]
    issuer.answers[path] = lambda: answer(issuer.url)
    issuer.answers["/secret"] = lambda: (200, {}, json.dumps({"keys": issuer.keys}).encode())
    assert "cannot be fetched" in refused(issuer.identity(SITE))
    assert "/secret" not in issuer.asked


@pytest.mark.django_db(transaction=True)
def test_twenty_jobs_at_once_after_a_rotation_ask_once(
    ada: Any, issuer: Issuer, trusted: TrustedRepository
) -> None:
    results: list[str] = []

    def job(n: int) -> None:
        try:
            results.append(trade(issuer.identity(SITE, jti=f"job-{n}")).token.user.username)
        except RuleError as error:
            results.append(error.sentence)
        finally:
            connection.close()

    threads = [threading.Thread(target=job, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == ["ada"] * 8
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    "value",
    ["https://gitlab.com", "github=http://ci.example.org", "jenkins=https://ci.example.org", "gitlab=https://x/", "github=https://u@x", "github=ftp://127.0.0.1", "github=https://x?y", "github="],
)  # fmt: skip
def test_a_wrong_list_of_issuers_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GATEHOUSE_OIDC_ISSUERS", value)
    with pytest.raises(ImproperlyConfigured, match="GATEHOUSE_OIDC_ISSUERS holds"):
        environment.oidc_issuers()


def test_the_usual_issuers_are_let_in_unless_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEHOUSE_OIDC_ISSUERS", raising=False)
    usual = {"https://token.actions.githubusercontent.com": "github", "https://gitlab.com": "gitlab"}
    assert environment.oidc_issuers() == usual
    monkeypatch.setenv("GATEHOUSE_OIDC_ISSUERS", "none")
    assert environment.oidc_issuers() == {}
