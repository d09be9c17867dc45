"""People imported from a followed repository: no one can sign in as one of them or be mistaken for one."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction
from django.test import Client

from access_requests.models import OutgoingMail
from access_requests.services.emails.write import queue_mail
from access_requests.services.grants import grant_access
from portal.accounts.models import User
from portal.accounts.people import find_or_invite, find_person, import_person
from tests.emails import pressing
from tests.sign_in import sign_in

pytestmark = pytest.mark.django_db
HOST = "huggingface.co"


def imported(name: str = "clem") -> User:
    return import_person(name=name, full_name="Clem D", host=HOST)


@pytest.mark.parametrize(
    ("name", "username"),
    [
        ("clem", "clem.huggingface.co"),
        ("Clem-D_3", "Clem-D_3.huggingface.co"),
        ("a" * 80, "a" * 80 + ".huggingface.co"),
    ],
)
def test_user_name_has_the_host_behind_it(name: str, username: str) -> None:
    user = imported(name)
    assert (user.username, user.get_full_name(), user.email) == (username, "Clem D", "")


@pytest.mark.parametrize("name", ["", "..", "a--b", "-x", "é", "a" * 96, "x/../y"])
def test_name_that_cannot_be_a_user_name_here_gets_another(name: str) -> None:
    username = import_person(name=name, full_name="", host="127.0.0.1:8000").username
    assert username.endswith(".127.0.0.1.8000")
    assert username.startswith("applicant")


def test_many_of_one_name_are_told_apart() -> None:
    names = [imported().username for _ in range(3)]
    assert names == ["clem.huggingface.co", "clem.huggingface.co.2", "clem.huggingface.co.3"]


def test_several_without_address_stand_beside_each_other_and_others_need_one() -> None:
    assert (imported("a").email, imported("b").email) == ("", "")
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("", "somebody")


@pytest.mark.parametrize(
    "change",
    [{"email": "a@example.org"}, {"password": "pbkdf2_sha256$x"}, {"is_superuser": True}],
)
def test_database_refuses_address_password_and_rights(change: dict[str, Any]) -> None:
    user = imported()
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=user.pk).update(**change)


@pytest.mark.parametrize(
    ("login", "password"),
    [("", ""), ("", "!"), ("clem.huggingface.co", "a good password"), ("clem@huggingface.co", "!")],
)
def test_nobody_signs_in_as_one_of_them(client: Client, login: str, password: str) -> None:
    user, other = imported(), imported("other")
    assert not client.login(username=login, email=login, password=password)
    assert not client.login(username=user.username, password=user.password)
    assert other.password.startswith("!")
    answer = client.post("/accounts/login/", {"login": login, "password": password})
    assert answer.status_code == 200
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("address", ["", "clem@far.example.org", "clem.huggingface.co"])
def test_password_of_one_of_them_cannot_be_reset(client: Client, address: str) -> None:
    imported()
    client.post("/accounts/password/reset/", {"email": address})
    assert [sent.to for sent in pressing() if sent.to != address] == []
    assert all("/accounts/password/reset/key/" not in sent.text for sent in pressing())


def test_address_never_finds_one_of_them() -> None:
    user = imported()
    assert find_person("") is None
    assert find_person("clem@far.example.org") is None
    assert find_or_invite("clem@far.example.org").user != user


def test_grant_by_address_goes_to_somebody_else(make_model: Any) -> None:
    user = imported()
    granted = grant_access(model=make_model(), email="clem@far.example.org", days=3)
    assert granted.user != user
    assert granted.new_account


def test_signing_up_with_the_address_given_elsewhere_joins_nothing(client: Client) -> None:
    user = imported()
    client.post(
        "/accounts/signup/",
        {
            "first_name": "Clem",
            "last_name": "D",
            "email": "clem@far.example.org",
            "password1": "a good long password",
        },
    )
    assert User.objects.get(email="clem@far.example.org") != user
    assert EmailAddress.objects.filter(user=user).count() == 0


def test_nothing_is_mailed_to_somebody_without_address() -> None:
    assert queue_mail(key="k", to="", template="mails/revoked.txt", context={}) is None
    assert OutgoingMail.objects.count() == 0


def test_admin_shows_them_and_hands_them_no_rights(make_person: Any, client: Client) -> None:
    from allauth.mfa.models import Authenticator

    root = make_person("root", is_superuser=True)
    Authenticator.objects.create(user=root, type=Authenticator.Type.TOTP, data={})
    sign_in(client, root, confirmed=True)
    user = imported()
    address = f"/admin/accounts/user/{user.pk}/change/"
    assert b"Clem D" in client.get(address).content
    answer = client.post(
        address,
        {
            "username": user.username,
            "first_name": "Clem",
            "is_active": "on",
            "is_superuser": "on",
        }
        | {"emailaddress_set-TOTAL_FORMS": 0, "emailaddress_set-INITIAL_FORMS": 0},
    )
    assert answer.status_code == 302
    user.refresh_from_db()
    assert (user.first_name, user.is_superuser) == ("Clem", False)
