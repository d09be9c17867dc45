from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from tests.threads import all_at_once

ADA = {"first_name": "Ada", "last_name": "", "username": "ada", "institution": "", "country": "", "orcid": ""}


def test_profile_of_a_stranger_asks_to_sign_in(client: Client) -> None:
    assert client.get("/me/profile")["Location"] == "/accounts/login/?next=/me/profile"


def test_profile_is_saved_and_cleaned(signed_in: Callable[..., Client]) -> None:
    client = signed_in("ada")
    page = client.post(
        "/me/profile",
        ADA
        | {"institution": " Analytical  Society\n", "country": "GB", "orcid": "orcid.org/0000000218250097"},
        follow=True,
    )
    assert "Your profile is saved." in page.content.decode()
    ada = get_user_model().objects.get()
    assert (ada.institution, ada.country.code, ada.orcid) == (
        "Analytical Society",
        "GB",
        "0000-0002-1825-0097",
    )


def test_profile_with_a_mistyped_orcid_says_why_and_saves_nothing(signed_in: Callable[..., Client]) -> None:
    client = signed_in("ada", first_name="Before")
    page = client.post("/me/profile", ADA | {"orcid": "0000-0002-1825-0098"})
    assert page.status_code == 422
    assert "there is a typo: check your ORCID iD." in page.content.decode()
    assert get_user_model().objects.get().first_name == "Before"


def test_profile_user_name_may_change_but_not_to_anothers(
    signed_in: Callable[..., Client], make_person: Callable[..., Any]
) -> None:
    make_person("grace")
    client = signed_in("ada")
    assert "“Grace” is taken" in client.post("/me/profile", ADA | {"username": "Grace"}).content.decode()
    assert client.post("/me/profile", ADA | {"username": "Ada"}).status_code == 302
    assert get_user_model().objects.filter(username="Ada").count() == 1


def test_profile_of_a_holder_of_a_reserved_name_can_be_saved(signed_in: Callable[..., Client]) -> None:
    assert signed_in("admin").post("/me/profile", ADA | {"username": "admin"}).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_profile_two_people_taking_one_name_at_once(signed_in: Callable[..., Client]) -> None:
    clients = [signed_in(name) for name in ("ada", "grace", "mary")]
    statuses = all_at_once(
        3, lambda n: clients[n].post("/me/profile", ADA | {"username": "Countess"}).status_code
    )
    assert sorted(statuses) == [302, 422, 422]


@pytest.mark.parametrize(
    "name",
    [
        "account_email",
        "account_change_password",
        "mfa_index",
        "usersessions_list",
        "profile",
        "account_logout",
    ],
)
def test_account_pages_have_the_portals_frame_and_nothing_inline(
    signed_in: Callable[..., Client], name: str
) -> None:
    page = signed_in("ada").get(reverse(name))
    text = page.content.decode()
    assert page.status_code == 200
    assert '<a class="skip" href="#content">' in text
    assert "style=" not in text
    assert "<style" not in text
    assert "onclick=" not in text
    policy = dict(part.split(" ", 1) for part in page["Content-Security-Policy"].split("; "))
    assert (policy["script-src"], policy["style-src"], policy["default-src"]) == (
        "'self'",
        "'self'",
        "'none'",
    )


@pytest.mark.parametrize("name", ["account_login", "account_signup", "account_reset_password"])
def test_entrance_pages_have_the_portals_frame_and_nothing_inline(client: Client, name: str) -> None:
    text = client.get(reverse(name)).content.decode()
    assert '<main id="content" class="entrance"' in text
    assert "style=" not in text
    assert "<style" not in text
