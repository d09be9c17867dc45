from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client


def test_admin_of_staff_without_second_factor_leads_to_adding_one(signed_in: Callable[..., Client]) -> None:
    client = signed_in("boss", is_superuser=True)
    page = client.get("/admin/accounts/user/", follow=True)
    assert page.redirect_chain == [("/accounts/2fa/", 302)]
    assert "These pages need a second factor" in page.content.decode()
    assert client.post("/admin/accounts/user/1/change/").status_code == 302
    assert client.get("/outbox/")["Location"] == "/accounts/2fa/"


def test_admin_of_staff_with_second_factor_opens(
    signed_in: Callable[..., Client], add_factor: Callable[[Any], None]
) -> None:
    client = signed_in("boss", is_superuser=True)
    add_factor(get_user_model().objects.get())
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/accounts/user/").status_code == 200


def test_admin_of_staff_in_the_demo_opens_without(signed_in: Callable[..., Client], settings: Any) -> None:
    settings.GATEHOUSE_DEMO = True
    assert signed_in("boss", is_superuser=True).get("/admin/").status_code == 200


def test_admin_of_an_applicant_is_refused_in_words(signed_in: Callable[..., Client]) -> None:
    page = signed_in("ada").get("/admin/", follow=True)
    assert page.status_code == 403
    assert "have access to this page" in page.content.decode()


def test_admin_of_a_stranger_leads_to_the_portals_sign_in(client: Client) -> None:
    page = client.get("/admin/", follow=True)
    assert page.redirect_chain[-1][0].startswith("/accounts/login/?next=")


def test_sign_in_with_second_factor_asks_for_it(
    make_person: Callable[..., Any], add_factor: Callable[[Any], None]
) -> None:
    boss, client = make_person("boss", is_superuser=True), Client()
    add_factor(boss)
    answer = client.post("/accounts/login/", {"login": boss.email, "password": "a good password"})
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    assert client.get("/admin/").status_code == 302
    assert "Use a passkey or security key" in client.get("/accounts/2fa/authenticate/").content.decode()


def test_sign_in_while_the_cache_is_away_works(make_person: Callable[..., Any], settings: Any) -> None:
    settings.CACHES = {
        "default": settings.CACHES["default"] | {"LOCATION": "unix:///nonexistent/valkey.sock"},
    }
    make_person("ada")
    answer = Client().post("/accounts/login/", {"login": "ada@example.org", "password": "a good password"})
    assert (answer.status_code, answer["Location"]) == (302, "/me/")


def test_admin_never_shows_the_secret_of_a_second_factor(
    signed_in: Callable[..., Client], add_factor: Callable[[Any], None]
) -> None:
    client = signed_in("boss", is_superuser=True)
    boss = get_user_model().objects.get()
    add_factor(boss)
    factor = boss.authenticator_set.get(type="totp")
    page = client.get(f"/admin/mfa/authenticator/{factor.pk}/change/")
    assert page.status_code == 200
    assert factor.data["secret"] not in page.content.decode()


@pytest.mark.parametrize(
    "path",
    ["/admin/", "/admin/no/such", "/outbox/", "/outbox/1", "/ai/tulu/downloads", "/ai/tulu/downloads.csv"],
)
def test_every_page_of_the_staff_asks_for_a_second_factor(
    signed_in: Callable[..., Client], make_model: Callable[..., Any], path: str
) -> None:
    make_model()
    client = signed_in("boss", is_superuser=True)
    for prefix in ("", "/x"):
        assert client.get(path, SCRIPT_NAME=prefix)["Location"] == "/accounts/2fa/"
