from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.internal.flows.email_verification_by_code import EMAIL_VERIFICATION_CODE_SESSION_KEY
from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse

from access_requests.models import MailServer
from access_requests.services.emails.send import drop_useless, send_due
from portal.accounts.models import User
from tests.emails import pressing
from tests.threads import all_at_once

OUTAGE = "Our mail server is not answering at the moment."
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.org", "password1": "a long engine"}


def sign_up(client: Client, **fields: str) -> Any:
    return client.post(reverse("account_signup"), ADA | {"username": ""} | fields)


def test_signup_to_confirmed_by_code(client: Client, newest_code: Callable[[], str]) -> None:
    page = sign_up(client)
    assert (page.status_code, page["Location"]) == (302, reverse("account_email_verification_sent"))
    assert [m.to for m in pressing()] == ["ada@example.org"]
    assert pressing()[0].subject == "Your code for Gatehouse"
    assert client.get(reverse("profile")).status_code == 302

    wrong = client.post(reverse("account_email_verification_sent"), {"code": "AAAA-AAAA"})
    assert "This code is wrong: check your newest email" in wrong.content.decode()
    done = client.post(reverse("account_email_verification_sent"), {"code": newest_code()})
    assert (done.status_code, done["Location"]) == (302, "/me/")

    ada = User.objects.get()
    assert (ada.username, ada.first_name, ada.last_name) == ("ada-lovelace", "Ada", "Lovelace")
    assert EmailAddress.objects.get(user=ada).verified
    assert client.get(reverse("profile")).status_code == 200


def test_signup_with_a_single_name_in_another_script(client: Client) -> None:
    assert sign_up(client, first_name="  王 ", last_name="").status_code == 302
    user = User.objects.get()
    assert (user.first_name, user.last_name) == ("王", "")
    assert user.username.startswith("researcher-")


def test_signup_never_makes_the_user_name_from_the_address(client: Client) -> None:
    sign_up(client, first_name="王", last_name="", email="secret.lover@example.org")
    assert "secret" not in User.objects.get().username


def test_signup_without_a_readable_name_says_so(client: Client) -> None:
    page = sign_up(client, first_name="\u202e\u2066")
    assert "Enter your name: these characters cannot be shown." in page.content.decode()
    assert User.objects.count() == 0


@pytest.mark.parametrize(
    ("username", "sentence"),
    [
        ("ada lovelace", "Use 1 to 96 letters, digits"),
        ("ADA", "“ADA” is taken: choose another user name."),
        ("admin", "“admin” is reserved for the portal"),
    ],
)
def test_signup_with_a_bad_user_name_keeps_the_rest(
    client: Client, make_person: Callable[..., Any], username: str, sentence: str
) -> None:
    make_person("ada", email="first@example.org")
    text = sign_up(client, username=username).content.decode()
    assert sentence in text
    assert 'value="Lovelace"' in text
    assert User.objects.count() == 1


def test_signup_with_a_known_address_looks_the_same_and_tells_its_holder(
    client: Client, make_person: Callable[..., Any]
) -> None:
    make_person("ada", email="ada@example.org")
    page = sign_up(client, email="ADA@example.org")
    assert (page.status_code, page["Location"]) == (302, reverse("account_email_verification_sent"))
    assert pressing()[0].subject == "You already have an account"
    assert User.objects.count() == 1


def test_signup_mails_link_to_our_address_whatever_the_host_header(
    client: Client, make_person: Callable[..., Any]
) -> None:
    make_person("ada", email="ada@example.org")
    client.post(reverse("account_signup"), ADA, headers={"host": "evil.example"})
    client.post(
        reverse("account_reset_password"), {"email": "ada@example.org"}, headers={"host": "evil.example"}
    )
    client.post(
        reverse("account_reset_password"), {"email": "x@example.org"}, headers={"host": "evil.example"}
    )
    assert len(pressing()) == 3
    for message in pressing():
        assert "evil.example" not in message.text
        assert "http://127.0.0.1:8000/accounts/" in message.text


def test_signup_while_the_mail_server_fails_says_so_where_the_code_is_awaited(
    client: Client, mail_through: Callable[..., None], newest_code: Callable[[], str]
) -> None:
    mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=1)
    page = client.post(reverse("account_signup"), ADA, follow=True).content.decode()
    assert "We are sending a code to" in page
    assert OUTAGE not in page
    notice = reverse("mail_outage")  # what the open page polls
    assert client.get(f"{notice}?shown=0").status_code == 204
    assert send_due() == 0
    assert OUTAGE in client.get(f"{notice}?shown=0").content.decode()
    assert client.get(f"{notice}?shown=1").status_code == 204
    for form in ("account_signup", "account_reset_password"):
        assert OUTAGE in Client().get(reverse(form)).content.decode()
    page = client.get(reverse("account_email_verification_sent")).content.decode()
    assert OUTAGE in page
    done = client.post(reverse("account_email_verification_sent"), {"code": newest_code()})
    assert done["Location"] == "/me/"
    reset = client.post(reverse("account_reset_password"), {"email": "ada@example.org"}, follow=True)
    assert OUTAGE in reset.content.decode()
    MailServer.objects.update(failures=0)
    cleared = client.get(f"{notice}?shown=1")
    assert (cleared.status_code, OUTAGE in cleared.content.decode()) == (200, False)
    assert OUTAGE not in client.get(reverse("account_reset_password_done")).content.decode()


def test_new_code_replaces_the_one_that_waits_for_the_same_browser_alone(
    client: Client, mail_through: Callable[..., None]
) -> None:
    mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=1)
    sign_up(client)
    elsewhere = Client()
    elsewhere.post(reverse("account_login"), {"login": ADA["email"], "password": ADA["password1"]})
    client.post(reverse("account_email_verification_sent"), {"action": "resend"})
    drop_useless()
    assert [mail.state for mail in pressing()] == ["expired", "waiting", "waiting"]


def test_signup_without_a_mail_server_says_whom_to_ask(client: Client) -> None:
    sentence = "This portal has no mail server yet, so it cannot send emails."
    assert sentence in client.get(reverse("account_signup")).content.decode()
    assert sentence in client.post(reverse("account_signup"), ADA, follow=True).content.decode()


def test_code_that_has_ended_is_replaced_by_a_new_one_with_a_life_of_its_own(
    client: Client, newest_code: Callable[[], str]
) -> None:
    page = reverse("account_email_verification_sent")
    sign_up(client)
    first, began = newest_code(), waiting_since(client)
    age_code(client, seconds=14 * 60)
    client.post(page, {"action": "resend"})
    assert (newest_code() != first, waiting_since(client) >= began) == (True, True)
    age_code(client, seconds=16 * 60)
    ended = client.get(page, follow=True)
    assert ended.redirect_chain == [(reverse("account_login"), 302)]
    assert "Your code has expired. Sign in with your password" in ended.content.decode()
    login = {"login": ADA["email"], "password": ADA["password1"]}
    assert client.post(reverse("account_login"), login)["Location"] == page
    assert client.post(page, {"code": newest_code()})["Location"] == "/me/"


def test_code_lives_no_longer_by_sending_again_too_often(
    client: Client, newest_code: Callable[[], str], settings: Any
) -> None:
    page = reverse("account_email_verification_sent")
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"confirm_email": "1/m/ip"}
    sign_up(client)
    client.post(page, {"action": "resend"})
    age_code(client, seconds=60)
    code, since = newest_code(), waiting_since(client)
    client.post(page, {"action": "resend"})
    assert newest_code() == code
    assert waiting_since(client) == since


def waiting_since(client: Client) -> float:
    return float(client.session[EMAIL_VERIFICATION_CODE_SESSION_KEY]["at"])


def age_code(client: Client, *, seconds: float) -> None:
    session = client.session
    session[EMAIL_VERIFICATION_CODE_SESSION_KEY]["at"] -= seconds
    session.save()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("chosen", ["", "ada"])
def test_signup_of_several_with_one_name_at_once_never_breaks(chosen: str) -> None:
    statuses = all_at_once(
        6, lambda n: sign_up(Client(), username=chosen, email=f"ada{n}@example.org").status_code
    )
    names = sorted(User.objects.values_list("username", flat=True))
    if chosen:
        assert (sorted(statuses), names) == ([200] * 5 + [302], ["ada"])
    else:
        assert (statuses, len(names), len(set(names))) == ([302] * 6, 6, 6)


@pytest.mark.django_db(transaction=True)
def test_signup_of_one_address_twice_at_once_makes_one_account() -> None:
    statuses = all_at_once(3, lambda _: sign_up(Client()).status_code)
    assert set(statuses) <= {302, 429}  # a second email to the same address within minutes is refused
    assert (statuses.count(302) >= 1, User.objects.count()) == (True, 1)


def test_suggestion_is_shown_while_typing(client: Client, make_person: Callable[..., Any]) -> None:
    make_person("zoe-garcia")
    page = client.get(reverse("suggest_username"), {"first_name": "Zoë", "last_name": "García"})
    assert page.content.decode().strip() == "If you leave it empty, it becomes <strong>zoe-garcia-2</strong>."
    assert client.get(reverse("suggest_username")).content.decode().strip() == ""


def test_password_reset_sets_a_new_password(
    client: Client, make_person: Callable[..., Any], newest_link: Callable[[], str]
) -> None:
    make_person("ada")
    client.post(reverse("account_reset_password"), {"email": "ada@example.org"})
    link = newest_link()
    form = client.get(link, follow=True).redirect_chain[-1][0]
    assert (
        client.post(form, {"password1": "another engine", "password2": "another engine"})["Location"]
        == "/me/"
    )
    assert User.objects.get().check_password("another engine")
    again = Client().get(link)
    assert "This link does not work any more" in again.content.decode()
