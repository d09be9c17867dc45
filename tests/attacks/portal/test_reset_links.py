"""Single-use secrets used several times at once: reset and invitation links, email codes, second-factor codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from access_requests.models import Event, OutgoingMail
from portal.accounts.models import User
from portal.accounts.people import find_or_invite
from tests.emails import newest_code, newest_link
from tests.sign_in import totp_code
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = 4
NEW = {"password1": "a new engine 1", "password2": "a new engine 1"}


@pytest.fixture(autouse=True)
def no_limits_from_other_tests(db: None) -> None:
    cache.clear()


def sessions_of(user: Any) -> int:
    """Return how many stored sessions are signed in as this person."""
    return sum(row.get_decoded().get(SESSION_KEY) == str(user.pk) for row in Session.objects.all())


def mailed_link() -> str:
    return newest_link("/accounts/password/reset/key/")


def used_at_once(link: str) -> list[Any]:
    """Open one link in several browsers, send their forms at the same moment, and return the answers."""
    browsers = [Client(REMOTE_ADDR=f"198.51.100.{n + 1}") for n in range(AT_ONCE)]
    forms = [browser.get(link, follow=True).redirect_chain[-1][0] for browser in browsers]
    return all_at_once(AT_ONCE, lambda n: browsers[n].post(forms[n], NEW))


def check_used_once(answers: list[Any], person: Any) -> None:
    assert sorted(answer.status_code for answer in answers) == [302, *[409] * (AT_ONCE - 1)]
    lost = next(answer for answer in answers if answer.status_code == 409)
    assert "This link does not work any more" in lost.content.decode()
    assert sessions_of(person) == 1
    person.refresh_from_db()
    assert person.check_password(NEW["password1"])
    assert Event.objects.filter(kind="account.password_reset").count() == 1
    assert OutgoingMail.objects.filter(subject="Your password was set through an emailed link").count() == 1


def test_reset_link_used_by_four_at_once_gives_one_session(make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    Client().post("/accounts/password/reset/", {"email": ada.email})
    link = mailed_link()
    check_used_once(used_at_once(link), ada)
    assert "This link does not work any more" in Client().get(link).content.decode()


def test_two_reset_links_used_at_once_give_one_session(make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    links = []
    for _ in range(2):
        Client().post("/accounts/password/reset/", {"email": ada.email})
        links.append(mailed_link())
    browsers = [Client(), Client()]
    forms = [
        browser.get(link, follow=True).redirect_chain[-1][0]
        for browser, link in zip(browsers, links, strict=True)
    ]
    answers = all_at_once(2, lambda n: browsers[n].post(forms[n], NEW).status_code)
    assert (sorted(answers), sessions_of(ada)) == ([302, 409], 1)


def test_invitation_used_by_four_at_once_gives_one_session() -> None:
    invited = find_or_invite("new@example.org")
    check_used_once(used_at_once(invited.url.removeprefix("http://127.0.0.1:8000")), invited.user)


def test_code_of_a_sign_up_sent_four_times_at_once_gives_one_session(client: Client) -> None:
    names = {"first_name": "Ada", "last_name": "L", "username": ""}
    client.post("/accounts/signup/", names | {"email": "ada@example.org", "password1": "a long engine"})
    code = newest_code()
    browsers = [Client() for _ in range(AT_ONCE)]
    for browser in browsers:
        browser.cookies = client.cookies
    all_at_once(AT_ONCE, lambda n: browsers[n].post("/accounts/confirm-email/", {"code": code}).status_code)
    assert sessions_of(User.objects.get()) == 1


@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_code_of_a_factor_sent_by_four_at_once_gives_one_session(
    make_person: Callable[..., Any], kind: str
) -> None:
    ada = make_person("ada")
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(ada, secret)
    unused = RecoveryCodes.activate(ada).get_unused_codes()[0]
    browsers = [Client(REMOTE_ADDR=f"198.51.100.{n + 1}") for n in range(AT_ONCE)]
    for browser in browsers:
        data = {"login": ada.email, "password": "a good password"}
        assert browser.post("/accounts/login/", data)["Location"] == "/accounts/2fa/authenticate/"
    code = totp_code(secret) if kind == "app" else unused
    statuses = all_at_once(
        AT_ONCE, lambda n: browsers[n].post("/accounts/2fa/authenticate/", {"code": code}).status_code
    )
    assert (sorted(statuses), sessions_of(ada)) == ([200] * (AT_ONCE - 1) + [302], 1)
    assert Authenticator.objects.filter(user=ada).count() == 2


def test_reset_drops_a_change_of_address_that_waits_for_its_code(make_person: Callable[..., Any]) -> None:
    from allauth.account.models import EmailAddress

    ada = make_person("ada")
    EmailAddress.objects.create(user=ada, email="thief@example.org", verified=False)
    Client().post("/accounts/password/reset/", {"email": ada.email})
    browser = Client()
    form = browser.get(mailed_link(), follow=True).redirect_chain[-1][0]
    assert browser.post(form, NEW)["Location"] == "/me/"
    assert list(EmailAddress.objects.values_list("email", flat=True)) == ["ada@example.org"]
