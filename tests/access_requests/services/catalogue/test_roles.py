"""Who is given a role and how: by address, with an invitation, by owners and operators, and what a role opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from access_requests.access.access import access_of, codes_for, readable_models
from access_requests.access.permissions import (
    decides_somewhere,
    has_role,
    is_owner,
    is_reviewer,
    people_to_tell,
    reviewers_of,
)
from access_requests.enums import AccessCode, Role
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import Event, OutgoingMail
from access_requests.services.catalogue.roles import add_person, assign_role, remove_person
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.requests.claims import claim_request
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.messages import add_note, thread_of
from access_requests.services.tokens import issue_person_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Return owner olga, auditor aud, ada and a model."""

    class People:
        olga, aud, ada = make_person("olga"), make_person("aud"), make_person("ada")
        model = make_model()

    assign_role(model=People.model, user=People.olga, role="owner")
    assign_role(model=People.model, user=People.aud, role="auditor")
    return People


def subjects() -> dict[str, str]:
    return {mail.to: mail.subject for mail in OutgoingMail.objects.all()}


def test_a_known_person_gets_the_role_and_an_email(people: Any) -> None:
    added = add_person(model=people.model, email="ADA@example.org", role="reviewer", actor=people.olga)
    assert (added.person, added.role, added.invited, added.changed) == (people.ada, "reviewer", False, True)
    assert subjects() == {"ada@example.org": "You are now reviewer of ai/tulu"}
    again = add_person(model=people.model, email="ada@example.org", role="reviewer", actor=people.olga)
    assert not again.changed
    assert OutgoingMail.objects.count() == 1
    assert Event.objects.filter(kind="model.role_changed", actor=people.olga).count() == 1


def test_an_unknown_address_is_invited_and_enters_once_it_has_a_password(people: Any) -> None:
    added = add_person(model=people.model, email="new@example.org", role="auditor")
    assert added.invited
    mail = OutgoingMail.objects.get()
    assert mail.subject == "You are now auditor of ai/tulu: set a password"
    link = next(word for word in mail.text.split() if "/accounts/password/reset/" in word)
    client = Client()
    page = client.get(link, follow=True)
    set_at = page.redirect_chain[-1][0]
    client.post(set_at, {"password1": "a very good password", "password2": "a very good password"})
    signed_in = client.post(
        "/accounts/login/", {"login": "new@example.org", "password": "a very good password"}, follow=True
    )
    assert signed_in.status_code == 200
    assert client.get("/admin/")["Location"] == "/accounts/2fa/"  # entry, but not without a second factor


def test_an_address_that_nobody_confirmed_keeps_no_password(
    people: Any, make_person: Callable[..., Any]
) -> None:
    thief = make_person("thief", email="victim@example.org", password="known to the thief")
    EmailAddress.objects.filter(user=thief).update(verified=False)
    added = add_person(model=people.model, email="victim@example.org", role="owner")
    assert added.invited
    thief.refresh_from_db()
    assert not thief.has_usable_password()
    assert Event.objects.filter(kind="account.password_dropped").count() == 1
    assert "set a password" in subjects()["victim@example.org"]


@pytest.mark.parametrize(
    ("email", "role", "error", "sentence"),
    [
        ("no address", "reviewer", Invalid, "is not an email address"),
        ("ada@example.org", "king", Invalid, "There is no role 'king'"),
        ("ada@example.org", "", Invalid, "Choose a role"),
    ],
)
def test_what_is_not_a_role_or_an_address(
    people: Any, email: str, role: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        add_person(model=people.model, email=email, role=role, actor=people.olga)
    assert not OutgoingMail.objects.exists()


def test_only_owners_give_and_take_roles(people: Any, make_person: Callable[..., Any]) -> None:
    rita = make_person("rita")
    assign_role(model=people.model, user=rita, role="reviewer")
    for actor in (rita, people.aud, people.ada):
        with pytest.raises(NotAllowed, match="Only an owner"):
            add_person(model=people.model, email="ada@example.org", role="reviewer", actor=actor)
        with pytest.raises(NotAllowed, match="Only an owner"):
            remove_person(model=people.model, user=people.olga, actor=actor)
    people.ada.is_active = False
    people.ada.save()
    with pytest.raises(Conflict, match="is disabled"):
        add_person(model=people.model, email="ada@example.org", role="reviewer", actor=people.olga)


def test_the_last_owner_stays(people: Any, make_person: Callable[..., Any]) -> None:
    for change in (
        lambda: remove_person(model=people.model, user=people.olga, actor=people.olga),
        lambda: assign_role(model=people.model, user=people.olga, role="reviewer", actor=people.olga),
    ):
        with pytest.raises(Conflict, match="is the only owner of ai/tulu"):
            change()
    add_person(model=people.model, email="ada@example.org", role="owner", actor=people.olga)
    assert remove_person(model=people.model, user=people.olga, actor=people.ada) == "owner"
    assert subjects()["olga@example.org"] == "You are no longer owner of ai/tulu"
    remove_person(model=people.model, user=people.ada)  # an operator may


def test_a_role_that_is_not_there_cannot_be_removed(people: Any) -> None:
    with pytest.raises(NotFound, match="ada is not owner, reviewer or auditor of ai/tulu"):
        remove_person(model=people.model, user=people.ada)
    with pytest.raises(NotFound, match="aud is not reviewer of ai/tulu"):
        remove_person(model=people.model, user=people.aud, role="reviewer")
    assert remove_person(model=people.model, user=people.aud, role="auditor") == "auditor"


def test_entry_to_the_admin_follows_the_role(people: Any, make_person: Callable[..., Any]) -> None:
    root = make_person("root", is_superuser=True)
    assert [one.is_staff for one in (people.olga, people.aud, people.ada, root)] == [True, True, False, True]
    remove_person(model=people.model, user=people.aud)
    fresh = type(people.aud).objects.get(pk=people.aud.pk)
    assert not fresh.is_staff


def test_an_auditor_reads_and_changes_nothing(people: Any, submit: Any) -> None:
    model, aud = people.model, people.aud
    assert (has_role(aud, model), is_reviewer(aud, model), is_owner(aud, model)) == (True, False, False)
    assert aud not in reviewers_of(model)
    assert aud not in people_to_tell(model)
    assert not decides_somewhere(aud)
    assert access_of(aud, model).code == AccessCode.NO_REQUEST
    assert codes_for(aud, [model]) == {model.pk: AccessCode.NO_REQUEST}
    assert readable_models(aud) == []
    request = submit(people.ada, model)
    add_note(request=request, reviewer=people.olga, words="Looks fine.")
    assert len(thread_of(request, notes=True)) == 1
    for write in (
        lambda: record_decision(request=request, reviewer=aud, outcome="approved"),
        lambda: claim_request(request=request, reviewer=aud),
        lambda: add_note(request=request, reviewer=aud, words="Hello"),
        lambda: issue_person_token(user=aud, name="t", kind="reviewer"),
    ):
        with pytest.raises(NotAllowed):
            write()
    grant_access(model=model, email=people.ada.email, days=3)
    with pytest.raises(NotAllowed):
        revoke_access(model=model, user=people.ada, actor=aud)


def test_an_auditor_of_an_unlisted_model_knows_of_it(people: Any, make_model: Callable[..., Any]) -> None:
    hidden = make_model("ai/hidden", listed=False)
    assign_role(model=hidden, user=people.aud, role=Role.AUDITOR)
    client = Client()
    client.force_login(people.aud)
    assert client.get("/ai/hidden").status_code == 200
    client.force_login(people.ada)
    assert client.get("/ai/hidden").status_code == 404


def test_an_auditor_with_a_grant_reads_like_any_holder(people: Any) -> None:
    grant_access(model=people.model, email=people.aud.email, days=3)
    assert access_of(people.aud, people.model).code == AccessCode.GRANTED


def test_a_vote_counts_only_while_its_reviewer_decides(
    people: Any, submit: Any, make_person: Callable[..., Any]
) -> None:
    rita, rolf = make_person("rita"), make_person("rolf")
    for reviewer in (rita, rolf):
        assign_role(model=people.model, user=reviewer, role="reviewer")
    people.model.approvals = 2
    people.model.save()
    request = submit(people.ada, people.model)
    record_decision(request=request, reviewer=rita, outcome="approved")
    assign_role(model=people.model, user=rita, role="auditor")
    record_decision(request=request, reviewer=rolf, outcome="approved")
    request.refresh_from_db()
    assert request.is_open
    record_decision(request=request, reviewer=people.olga, outcome="approved")
    request.refresh_from_db()
    assert request.state == "approved"
