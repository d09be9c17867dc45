from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from portal.accounts.models import OwnerLink, User
from portal.accounts.owner import owner_link
from tests.threads import all_at_once

GRACE = {
    "first_name": "Grace",
    "last_name": "Hopper",
    "username": "admin",
    "email": "Grace@Example.org",
    "password": "a good compiler",
}


def path_of(link: str | None) -> str:
    assert link is not None
    assert link.startswith("http://127.0.0.1:8000/accounts/owner/")
    return link.removeprefix("http://127.0.0.1:8000")


def test_owner_link_makes_the_superuser_and_leads_to_the_second_factor(client: Client) -> None:
    path = path_of(owner_link())
    assert client.get(path).status_code == 200
    done = client.post(path, GRACE)
    assert (done.status_code, done["Location"]) == (302, "/accounts/2fa/")
    owner = User.objects.get()
    assert (owner.username, owner.email, owner.is_staff, owner.is_superuser) == (
        "admin",
        "grace@example.org",
        True,
        True,
    )
    assert EmailAddress.objects.get(user=owner, email="grace@example.org").verified
    assert client.get("/me/profile").status_code == 200
    assert client.get("/accounts/2fa/totp/activate/").status_code == 200
    assert client.get("/admin/")["Location"] == "/accounts/2fa/"


def test_owner_link_used_twice_is_closed(client: Client) -> None:
    path = path_of(owner_link())
    client.post(path, GRACE)
    stranger = Client()
    for answer in (
        stranger.get(path),
        stranger.post(path, GRACE | {"email": "x@example.org", "username": "x"}),
    ):
        assert answer.status_code == 410
        assert "This link does not work any more" in answer.content.decode()
    assert User.objects.count() == 1
    assert owner_link() is None


def test_owner_link_of_before_stops_when_a_new_one_is_made(client: Client) -> None:
    first, second = path_of(owner_link()), path_of(owner_link())
    assert (client.get(first).status_code, client.get(second).status_code) == (410, 200)


def test_owner_link_ends_when_a_superuser_appears_otherwise(
    client: Client, make_person: Callable[..., Any]
) -> None:
    path = path_of(owner_link())
    make_person("root", is_superuser=True)
    assert client.get(path).status_code == 410


def test_owner_link_of_nothing_is_closed(client: Client) -> None:
    assert client.get("/accounts/owner/guess").status_code == 410


def test_owner_link_keeps_only_a_digest(db: None) -> None:
    token = path_of(owner_link()).rpartition("/")[2]
    assert OwnerLink.objects.count() == 1
    assert token not in OwnerLink.objects.get().digest


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"password": "short"}, "This password is too short."),
        ({"password": "gracehopper", "username": "gracehopper"}, "The password is too similar to the"),
        ({"email": "nonsense"}, "Enter a valid email address."),
        ({"username": "a b"}, "Use 1 to 96 letters"),
        ({"email": "known@example.org"}, "This email address already has an account"),
    ],
)
def test_owner_form_with_bad_input_says_why_and_the_link_stays(
    client: Client, make_person: Callable[..., Any], fields: dict[str, str], sentence: str
) -> None:
    make_person("known", email="known@example.org")
    path = path_of(owner_link())
    page = client.post(path, GRACE | fields)
    assert page.status_code == 422
    assert sentence in page.content.decode()
    assert client.post(path, GRACE).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_owner_link_used_by_four_at_once_makes_one_owner() -> None:
    path = path_of(owner_link())
    statuses = all_at_once(
        4,
        lambda n: (
            Client().post(path, GRACE | {"email": f"g{n}@example.org", "username": f"g{n}"}).status_code
        ),
    )
    assert sorted(statuses) == [302, 410, 410, 410]
    assert User.objects.filter(is_superuser=True).count() == 1
