"""Strangers guess passwords and codes or request emails: the account's person still gets in and is not flooded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client

from portal.accounts import guessing
from tests.emails import pressing
from tests.sign_in import totp_code
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db
PASSWORD = "a good password"
OWN = "198.51.100.7"


@pytest.fixture(autouse=True)
def no_limits_from_other_tests(db: None, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["tests.hashing.QuickHasher"]
    cache.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


def sign_in_from(address: str, password: str, email: str = "ada@example.org") -> Any:
    return Client(REMOTE_ADDR=address).post("/accounts/login/", {"login": email, "password": password})


def test_wrong_passwords_from_five_addresses_do_not_keep_the_right_one_out(ada: Any) -> None:
    for number in range(5):
        for guess in range(6):
            assert sign_in_from(f"203.0.113.{number}", f"guess {guess}").status_code == 200
    assert sign_in_from(OWN, PASSWORD)["Location"] == "/me/"


def test_sixth_guess_from_one_address_is_refused_even_when_right(ada: Any) -> None:
    for guess in range(5):
        assert "do not match" in sign_in_from("203.0.113.1", f"guess {guess}").content.decode()
    refused = sign_in_from("203.0.113.1", PASSWORD)
    assert (refused.status_code, "Too many attempts" in refused.content.decode()) == (200, True)
    assert Client(REMOTE_ADDR="203.0.113.1").get("/accounts/login/").status_code == 200


def test_addresses_of_one_ipv6_network_count_as_one(ada: Any) -> None:
    for guess in range(5):
        sign_in_from(f"2001:db8::{guess + 1}", f"guess {guess}")
    assert "Too many attempts" in sign_in_from("2001:db8::99", PASSWORD).content.decode()
    assert sign_in_from("2001:db8:0:1::1", PASSWORD)["Location"] == "/me/"


def test_ipv4_addresses_written_as_ipv6_are_told_apart(ada: Any) -> None:
    for guess in range(5):
        sign_in_from("::ffff:203.0.113.1", f"guess {guess}")
    assert "Too many attempts" in sign_in_from("203.0.113.1", PASSWORD).content.decode()
    assert sign_in_from("::ffff:198.51.100.7", PASSWORD)["Location"] == "/me/"


def test_guesses_at_many_accounts_from_one_address_are_refused_after_ten(
    make_person: Callable[..., Any],
) -> None:
    for number in range(10):
        sign_in_from("203.0.113.1", "a guess", email=f"person{number}@example.org")
    make_person("ada")
    assert "Too many attempts" in sign_in_from("203.0.113.1", PASSWORD).content.decode()
    assert sign_in_from(OWN, PASSWORD)["Location"] == "/me/"


@pytest.mark.django_db(transaction=True)
def test_guesses_at_the_same_moment_do_not_slip_past_the_bound(ada: Any) -> None:
    pages = all_at_once(8, lambda n: sign_in_from("203.0.113.1", f"guess {n}").content.decode())
    assert sum("do not match" in page for page in pages) == guessing.HERE.most


def worn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let many addresses guess until the whole account accepts no more attempts from strangers."""
    small = guessing.Limit(guessing.ANYWHERE.name, 8, 3600, guessing.ANYWHERE.sentence)
    monkeypatch.setattr(guessing, "ANYWHERE", small)
    for number in range(10):
        sign_in_from(f"203.0.113.{number}", "a guess")


def test_guesses_from_very_many_addresses_end_and_spare_known_browsers_and_places(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Client(REMOTE_ADDR=OWN)
    known.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    worn_out(monkeypatch)
    refused = sign_in_from("192.0.2.66", PASSWORD).content.decode()
    assert "Many wrong passwords or codes were tried for this account" in refused
    assert sign_in_from(OWN, PASSWORD)["Location"] == "/me/"  # an address that has a session

    travelling = Client(REMOTE_ADDR="192.0.2.99")
    travelling.cookies[guessing.COOKIE] = known.cookies[guessing.COOKIE].value
    again = travelling.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    assert again["Location"] == "/me/"


def test_known_browser_of_another_person_is_no_known_one(
    ada: Any, make_person: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_person("eve")
    eve = Client(REMOTE_ADDR="192.0.2.66")
    eve.post("/accounts/login/", {"login": "eve@example.org", "password": PASSWORD})
    eve.post("/accounts/logout/")
    worn_out(monkeypatch)
    answer = eve.post("/accounts/login/", {"login": ada.email, "password": PASSWORD}).content.decode()
    assert "Many wrong passwords or codes were tried for this account" in answer
    eve.cookies[guessing.COOKIE] = "forged:cookie"
    assert eve.post("/accounts/login/", {"login": ada.email, "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize("address", ["192.0.2.66", "203.0.113.1"])
def test_reset_link_works_when_guesses_used_everything_up(
    ada: Any, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    worn_out(monkeypatch)
    browser = Client(REMOTE_ADDR=address)
    browser.post("/accounts/password/reset/", {"email": ada.email})
    link = re.search(r"http://127.0.0.1:8000(/accounts/password/reset/key/\S+)", pressing()[-1].text)
    assert link
    form = browser.get(link.group(1), follow=True).redirect_chain[-1][0]
    new = {"password1": "a new engine 1", "password2": "a new engine 1"}
    assert browser.post(form, new)["Location"] == "/me/"
    browser.post("/accounts/logout/")
    again = browser.post("/accounts/login/", {"login": ada.email, "password": "a new engine 1"})
    assert again["Location"] == "/me/"


def test_wrong_codes_of_who_knows_the_password_do_not_keep_the_right_code_out(ada: Any) -> None:
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(ada, secret)
    for number in range(2):
        thief = Client(REMOTE_ADDR=f"203.0.113.{number}")
        thief.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
        pages = [
            thief.post("/accounts/2fa/authenticate/", {"code": "000000x"}).content.decode() for _ in range(6)
        ]
        assert "Too many attempts" in pages[-1]
    owner = Client(REMOTE_ADDR=OWN)
    owner.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    code = totp_code(secret)
    assert owner.post("/accounts/2fa/authenticate/", {"code": code})["Location"] == "/me/"


def test_own_second_factor_does_not_wash_guesses_at_others_away(
    ada: Any, make_person: Callable[..., Any]
) -> None:
    eve, secret = make_person("eve"), totp.generate_totp_secret()
    totp.TOTP.activate(eve, secret)
    for number in range(9):
        sign_in_from("203.0.113.1", "a guess", email=f"person{number}@example.org")
    browser = Client(REMOTE_ADDR="203.0.113.1")
    browser.post("/accounts/login/", {"login": eve.email, "password": PASSWORD})
    code = totp_code(secret)
    assert browser.post("/accounts/2fa/authenticate/", {"code": code})["Location"] == "/me/"
    assert "do not match" in sign_in_from("203.0.113.1", "a guess").content.decode()
    assert "Too many attempts" in sign_in_from("203.0.113.1", "another").content.decode()


def test_reset_mails_to_one_mailbox_end_and_its_owner_still_gets_in(ada: Any) -> None:
    for number in range(12):
        answer = Client(REMOTE_ADDR=f"203.0.113.{number}").post(
            "/accounts/password/reset/", {"email": ada.email}
        )
        assert answer.status_code == 302
    assert len(pressing()) == 5
    link = re.search(r"http://127.0.0.1:8000(/accounts/password/reset/key/\S+)", pressing()[0].text)
    assert link
    owner = Client(REMOTE_ADDR=OWN)
    assert owner.get(link.group(1), follow=True).redirect_chain[-1][0].endswith("set-password/")
    assert sign_in_from(OWN, PASSWORD)["Location"] == "/me/"  # signing in ends these links
    owner.post("/accounts/password/reset/", {"email": ada.email})
    assert len(pressing()) == 6


@pytest.mark.parametrize(
    ("path", "data", "most"),
    [
        ("/accounts/password/reset/", {"email": "nobody@example.org"}, 3),
        (
            "/accounts/signup/",
            {"first_name": "A", "username": "", "email": "ada@example.org", "password1": "a long engine"},
            3,
        ),
    ],
)
def test_mails_that_anybody_can_have_sent_to_an_address_end(
    ada: Any, path: str, data: dict[str, str], most: int
) -> None:
    for number in range(12):
        Client(REMOTE_ADDR=f"203.0.113.{number}").post(path, data)
    assert len(pressing()) == most
