from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core.mail import EmailMessage, send_mail
from django.test import Client

from portal import outbox
from portal.accounts.models import CaughtMail


@pytest.fixture(autouse=True)
def caught_mail(db: None, mail_through: Callable[..., None]) -> None:
    mail_through("portal.outbox.OutboxBackend")
    send_mail(
        "A secret code",
        "Your code: ABCD-EFGH\n\nhttp://127.0.0.1:8000/x?a=1&b=2.\n<script>alert(1)</script>",
        None,
        ["ada@example.org"],
    )


def look(client: Client, **extra: Any) -> tuple[int, bool]:
    answer = client.get("/outbox/", **extra)
    single = client.get(f"/outbox/{CaughtMail.objects.get().pk}", **extra)
    assert answer.status_code == single.status_code
    shown = "A secret code" in answer.content.decode()
    assert ("ABCD-EFGH" in single.content.decode()) == shown
    return answer.status_code, shown


@pytest.fixture
def staff(make_person: Callable[..., Any], client: Client) -> Client:
    boss = make_person("boss", is_superuser=True)
    TOTP.activate(boss, generate_totp_secret())
    client.force_login(boss, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_outbox_of_staff_shows_the_mails(staff: Client) -> None:
    assert look(staff) == (200, True)


def test_outbox_of_a_stranger_is_not_there(client: Client) -> None:
    assert look(client) == (404, False)


def test_outbox_of_an_applicant_is_not_there(client: Client, make_person: Callable[..., Any]) -> None:
    client.force_login(make_person("ada"), backend="django.contrib.auth.backends.ModelBackend")
    assert look(client) == (404, False)


def test_outbox_with_a_mail_server_is_not_there_even_for_staff(staff: Client, settings: Any) -> None:
    settings.OUTBOX_PAGE = False
    assert look(staff) == (404, False)


def test_outbox_in_the_demo_is_open_on_this_machine_only(client: Client, settings: Any) -> None:
    settings.GATEHOUSE_DEMO = True
    assert look(client, REMOTE_ADDR="127.0.0.1") == (200, True)
    assert look(client, REMOTE_ADDR="::1") == (200, True)
    assert look(client, REMOTE_ADDR="192.0.2.7") == (404, False)
    assert look(client, REMOTE_ADDR="127.0.0.1", headers={"x-forwarded-for": "192.0.2.7"}) == (404, False)
    settings.OUTBOX_PAGE = False
    assert look(client, REMOTE_ADDR="127.0.0.1") == (404, False)


def test_outbox_mail_is_plain_text_with_safe_links(staff: Client) -> None:
    text = staff.get(f"/outbox/{CaughtMail.objects.get().pk}").content.decode()
    link = "http://127.0.0.1:8000/x?a=1&amp;b=2"
    assert f'<a href="{link}" rel="noopener noreferrer nofollow">{link}</a>.' in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_outbox_link_cannot_break_out_of_its_attribute() -> None:
    assert outbox.with_links('http://a.example/"onclick=x <b>') == (
        '<a href="http://a.example/" rel="noopener noreferrer nofollow">http://a.example/</a>&quot;onclick=x &lt;b&gt;'
    )


def test_outbox_of_an_unknown_mail_is_not_there(staff: Client) -> None:
    assert staff.get("/outbox/999999").status_code == 404


def test_outbox_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEPT", 3)
    for number in range(5):
        EmailMessage(f"email {number}", "text", to=["a@example.org"], cc=["b@example.org"]).send()
    assert list(CaughtMail.objects.values_list("subject", "to")) == [
        (f"email {n}", "a@example.org, b@example.org") for n in (4, 3, 2)
    ]
