from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.test import Client
from django.utils.module_loading import import_string

from access_requests.errors import Invalid
from access_requests.models import Event, OutgoingMail
from access_requests.services.grants import grant_access
from portal.accounts.models import User
from portal.accounts.people import Invited, find_or_invite, find_person, save_account
from tests.threads import all_at_once


def test_invite_is_what_the_setting_names() -> None:
    assert import_string(settings.GATEHOUSE_INVITE) is find_or_invite


def test_invite_of_an_unknown_address_makes_an_anonymous_account(db: None) -> None:
    invited = find_or_invite(" Ada.Lovelace@Example.org ")
    assert invited.created
    assert invited.user.email == "ada.lovelace@example.org"
    assert re.fullmatch(r"researcher-\d{4}", invited.user.username)
    assert not invited.user.has_usable_password()
    assert not EmailAddress.objects.get(user=invited.user).verified
    assert invited.url.startswith("http://127.0.0.1:8000/accounts/password/reset/key/")


def test_invite_link_sets_a_password_confirms_the_address_and_signs_in(db: None) -> None:
    invited, client = find_or_invite("ada@example.org"), Client()
    form = client.get(invited.url.removeprefix("http://127.0.0.1:8000"), follow=True).redirect_chain[-1][0]
    done = client.post(form, {"password1": "a long engine", "password2": "a long engine"})
    assert done["Location"] == "/me/"
    assert client.get("/me/profile").status_code == 200
    assert EmailAddress.objects.get(user=invited.user).verified
    assert find_or_invite("ada@example.org").url == "http://127.0.0.1:8000/accounts/login/"


def test_invite_again_before_the_first_visit_gives_a_working_link(db: None) -> None:
    first, second = find_or_invite("ada@example.org"), find_or_invite("ADA@example.org")
    assert (second.created, second.user) == (False, first.user)
    assert (
        "Set your password"
        in Client().get(second.url.removeprefix("http://127.0.0.1:8000"), follow=True).content.decode()
    )


def test_invite_of_a_known_address_finds_its_account(make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    assert find_or_invite("ADA@Example.org") == Invited(ada, False, "http://127.0.0.1:8000/accounts/login/")


def test_invite_does_not_believe_an_address_somebody_only_typed(make_person: Callable[..., Any]) -> None:
    mallory = make_person("mallory")
    EmailAddress.objects.create(user=mallory, email="ada@example.org", verified=False, primary=False)
    invited = find_or_invite("ada@example.org")
    assert (invited.created, invited.user == mallory) == (True, False)


@pytest.mark.parametrize(
    "address", ["", "ada", "ada@", "a b@example.org", "ada@example.org\nBcc: x@example.org"]
)
def test_invite_of_no_address_is_refused(db: None, address: str) -> None:
    with pytest.raises(Invalid, match="is not an email address"):
        find_or_invite(address)
    assert User.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_invite_of_one_address_by_several_at_once_makes_one_account() -> None:
    results = all_at_once(4, lambda _: find_or_invite("ada@example.org"))
    assert sorted(r.created for r in results) == [False, False, False, True]
    assert {r.user.pk for r in results} == {User.objects.get().pk}


def test_find_takes_confirmed_addresses_and_invites_nobody(make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    EmailAddress.objects.create(user=ada, email="ada@second.example", verified=True)
    EmailAddress.objects.create(user=ada, email="typed@only.example", verified=False)
    assert find_person(" ADA@example.org ") == ada
    assert find_person("ada@second.example") == ada
    assert find_person("typed@only.example") is None
    assert User.objects.count() == 1


def test_changed_rights_are_an_event_and_other_changes_are_none(make_person: Callable[..., Any]) -> None:
    olga, ada = make_person("olga"), make_person("ada")
    ada.institution = "Analytical Society"
    assert save_account(user=ada, actor=olga) == []
    ada.is_superuser, ada.is_active = True, False
    assert save_account(user=ada, actor=olga) == ["is_active", "is_superuser"]
    event = Event.objects.get(kind="account.rights_changed")
    assert (event.actor, event.data) == (olga, {"person": "ada", "is_active": False, "is_superuser": True})


def test_second_grant_to_somebody_who_never_came_invites_again(
    make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    for repo_id in ("ai/one", "ai/two"):
        grant_access(model=make_model(repo_id), email="new@example.org", days=3)
    mails = OutgoingMail.objects.filter(to="new@example.org").order_by("pk")
    assert [mail.key.partition(":")[0] for mail in mails] == ["invitation", "invitation"]
    assert all("/accounts/password/reset/key/" in mail.text for mail in mails)
