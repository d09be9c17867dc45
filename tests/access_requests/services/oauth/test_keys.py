from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.utils import timezone

from access_requests.errors import RuleError
from access_requests.models import IssuerKeys, TrustedRepository
from access_requests.services.oauth import keys
from access_requests.services.oauth.errors import OAuthError
from portal import environment
from tests.access_requests.services.oauth.trading import SITE, part, refused, trade
from tests.issuer import Issuer
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db
ASKED_ONCE = ["/.well-known/openid-configuration", "/keys"]
ASKING = """
import sys
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
settings.GATEHOUSE_OIDC_ISSUERS = {sys.argv[2]: "github"}
django.setup()
from access_requests.services.oauth.keys import key_of
key_of(sys.argv[2], kid="first", algorithm="RS256")
"""


def test_a_flood_of_unknown_keys_asks_the_issuer_once(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    for n in range(20):
        refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": f"unknown-{n}"}))
    assert issuer.asked == ASKED_ONCE
    assert trade(issuer.identity(SITE))


def test_new_keys_are_found_and_old_ones_forgotten(trusted: TrustedRepository, issuer: Issuer) -> None:
    old_key = issuer.keys[0]
    issuer.keys[:] = [old_key]
    assert trade(issuer.identity(SITE))
    issuer.keys[:] = [key for key in [*issuer.keys] if key is not old_key]
    issuer.add_key("rotated")
    rotated = issuer.sign(issuer.claims(SITE), kid="rotated")
    with pytest.raises(OAuthError, match="does not show"):  # the keys were fetched a moment ago
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


def test_an_unknown_key_while_the_issuer_is_away_is_a_matter_of_time(
    trusted: TrustedRepository, issuer: Issuer
) -> None:
    assert trade(issuer.identity(SITE))
    issuer.add_key("rotated")
    shown, issuer.answers["/keys"] = issuer.answers.get("/keys"), lambda: (500, {}, b"")
    a_while_ago = timezone.now() - keys.AGAIN
    IssuerKeys.objects.update(tried_at=a_while_ago, fetched_at=a_while_ago)
    rotated = issuer.sign(issuer.claims(SITE), kid="rotated")
    with pytest.raises(OAuthError, match="try again") as raised:
        trade(rotated)
    assert raised.value.status == 503
    issuer.answers.pop("/keys") if shown is None else issuer.answers.update({"/keys": shown})
    IssuerKeys.objects.update(tried_at=a_while_ago)
    assert trade(rotated)


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


@pytest.fixture
def slow(issuer: Issuer) -> Generator[threading.Event]:
    """Make the issuer wait for the event before it shows its keys."""
    answers = threading.Event()

    def wait() -> tuple[int, dict[str, str], bytes]:
        assert answers.wait(60)
        return 200, {}, json.dumps({"keys": issuer.keys}).encode()

    issuer.answers["/keys"] = wait
    yield answers
    answers.set()


def traded_at_once(issuer: Issuer, count: int, meanwhile: Callable[[], Any]) -> list[str]:
    """Return whom each job got a token for, or the error; `meanwhile` runs while the jobs wait."""

    def job(n: int) -> str:
        try:
            return trade(issuer.identity(SITE, jti=f"job-{n}")).token.user.username
        except RuleError as error:
            return error.sentence
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(job, n) for n in range(count)]
        meanwhile()
        return [job.result(60) for job in jobs]


@pytest.mark.django_db(transaction=True)
def test_twenty_jobs_at_once_after_a_rotation_ask_once(
    ada: Any, issuer: Issuer, trusted: TrustedRepository
) -> None:
    assert traded_at_once(issuer, 20, lambda: None) == ["ada"] * 20
    assert issuer.asked == ASKED_ONCE


@pytest.mark.django_db(transaction=True)
def test_a_slow_issuer_holds_no_row(
    ada: Any, issuer: Issuer, trusted: TrustedRepository, slow: threading.Event
) -> None:
    def meanwhile() -> None:
        wait_until(lambda: issuer.asked == ASKED_ONCE)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start < now() AND state LIKE 'idle in transaction%'"
            )
            assert cursor.fetchone() == (0,)
        with transaction.atomic():
            IssuerKeys.objects.select_for_update(nowait=True).get()
        assert IssuerKeys.objects.update(keys=[]) == 1
        slow.set()

    assert traded_at_once(issuer, 4, meanwhile) == ["ada"] * 4
    assert issuer.asked == ASKED_ONCE


@pytest.mark.django_db(transaction=True)
def test_known_keys_go_on_while_a_slow_issuer_is_asked_for_an_unknown_one(
    ada: Any, issuer: Issuer, trusted: TrustedRepository, slow: threading.Event
) -> None:
    slow.set()
    assert trade(issuer.identity(SITE))
    slow.clear()
    issuer.asked.clear()
    IssuerKeys.objects.update(tried_at=timezone.now() - keys.AGAIN)
    issuer.add_key("rotated")

    def rotated() -> str:
        try:
            return trade(issuer.sign(issuer.claims(SITE), kid="rotated")).token.user.username
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rotated)
        wait_until(lambda: issuer.asked == ASKED_ONCE)
        assert trade(issuer.identity(SITE)).token.user == ada
        slow.set()
        assert waiting.result(60) == "ada"
    assert issuer.asked == ASKED_ONCE


def test_keys_are_renewed_before_they_are_too_old_to_be_believed(
    trusted: TrustedRepository, issuer: Issuer
) -> None:
    assert trade(issuer.identity(SITE))
    issuer.asked.clear()
    an_hour_ago = timezone.now() - keys.RENEWED
    IssuerKeys.objects.update(tried_at=an_hour_ago, fetched_at=an_hour_ago)
    issuer.answers["/keys"] = lambda: (500, {}, b"")
    for _ in range(3):
        assert trade(issuer.identity(SITE))
    assert issuer.asked == ASKED_ONCE
    IssuerKeys.objects.update(tried_at=an_hour_ago)
    del issuer.answers["/keys"]
    assert trade(issuer.identity(SITE))
    assert IssuerKeys.objects.get().fetched_at > timezone.now() - keys.AGAIN


@pytest.mark.django_db(transaction=True)
def test_a_process_that_died_while_it_asked_gives_way(
    ada: Any,
    issuer: Issuer,
    trusted: TrustedRepository,
    slow: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", ASKING, str(connection.settings_dict["NAME"]), issuer.url]
    )
    try:
        wait_until(lambda: issuer.asked == ASKED_ONCE)
    finally:
        child.kill()
        child.wait(20)
    slow.set()
    assert IssuerKeys.objects.get().fetching_until > timezone.now()
    monkeypatch.setattr(keys, "PAUSES", (0.01,) * 3)
    with pytest.raises(OAuthError, match="try again in a minute") as raised:
        trade(issuer.identity(SITE))
    assert (raised.value.code, raised.value.status) == ("temporarily_unavailable", 503)
    assert issuer.asked == ASKED_ONCE
    row = IssuerKeys.objects.get()
    row.tried_at, row.fetching_until = row.tried_at - keys.AGAIN, row.fetching_until - keys.AGAIN
    row.save()
    assert trade(issuer.identity(SITE))
    assert IssuerKeys.objects.get().fetching_until is None


@pytest.mark.django_db(transaction=True)
def test_no_issuer_is_asked_inside_a_transaction(issuer: Issuer) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        keys.key_of(issuer.url, kid="first", algorithm="RS256")
    assert issuer.asked == []


@pytest.mark.parametrize("text", ["\0", "\ud800", "\u202e"])
def test_keys_that_no_table_can_hold_stand_in_nobodys_way(
    trusted: TrustedRepository, issuer: Issuer, text: str
) -> None:
    good = issuer.keys[0]
    issuer.keys += [{**good, "kid": text}, {**good, "kid": "x", "e": text}, {**good, "kid": "y", text: text}]
    issuer.keys += [
        {**good, "kid": "private", "d": "secret"},
        {**good, "kid": "odd", "use": 5, "x": 1.5},
    ]
    assert trade(issuer.identity(SITE))
    assert [key["kid"] for key in IssuerKeys.objects.get().keys] == ["first", "second", "curve", "y"]


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
