from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from access_requests.access.access import access_of, codes_for, model_and_access
from access_requests.access.standing import owed_licences
from access_requests.enums import AccessCode, Gate, TokenKind
from access_requests.models import GatedModel, Grant, LicenceVersion
from access_requests.services import tokens
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access, revoke_access

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(make_model: Callable[..., Any]) -> GatedModel:
    return make_model()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


def grant_of(model: GatedModel, person: Any) -> Grant:
    return grant_access(model=model, email=person.email, days=30).grant


def demand(model: GatedModel) -> None:
    model.licence_versions.update(must_accept_at=timezone.now())


@pytest.mark.parametrize("kind", [TokenKind.GRANT, TokenKind.USER, TokenKind.REVIEWER])
def test_allowed_access_is_one_query(
    model: GatedModel, ada: Any, kind: TokenKind, django_assert_num_queries: Any
) -> None:
    grant = grant_of(model, ada)
    if kind == TokenKind.REVIEWER:
        assign_role(model=model, user=ada, role="reviewer")
    if kind == TokenKind.GRANT:
        secret = tokens.issue_token(grant=grant, user=ada, name="laptop").secret
    else:
        secret = tokens.issue_person_token(user=ada, kind=kind, name="laptop").secret
    with django_assert_num_queries(1):
        token = tokens.authenticate(secret)
    with django_assert_num_queries(1):
        found = model_and_access("AI/Tulu", user=token.user, token=token)
    assert found
    assert found[0] == model
    assert (found[1].allowed, found[1].code, found[1].grant) == (True, AccessCode.GRANTED, grant)


def test_unknown_and_hidden_models_are_none(model: GatedModel, ada: Any, make_person: Any) -> None:
    sam = make_person("sam")
    grant_of(model, ada)
    GatedModel.objects.update(listed=False)
    assert model_and_access("ai/none", user=ada, token=None) is None
    assert model_and_access("ai/tulu\0", user=ada, token=None) is None
    for stranger in (None, AnonymousUser(), sam):
        assert model_and_access("ai/tulu", user=stranger, token=None) is None
    assert model_and_access("ai/tulu", user=ada, token=None) == (model, access_of(ada, model))
    revoke_access(model=model, user=ada)
    known = model_and_access("ai/tulu", user=ada, token=None)
    assert known
    assert known[1].code == AccessCode.REVOKED


def test_role_is_told_beside_the_access(model: GatedModel, ada: Any, make_person: Any) -> None:
    assign_role(model=model, user=ada, role="owner")
    root = make_person("root", is_superuser=True)
    assert (access_of(ada, model).code, access_of(ada, model).role) == (AccessCode.STAFF, "owner")
    assert access_of(root, model).role == "owner"
    grant_of(model, ada)
    assert (access_of(ada, model).code, access_of(ada, model).role) == (AccessCode.GRANTED, "owner")
    GatedModel.objects.update(gate=Gate.NONE)
    model.refresh_from_db()
    assert (access_of(ada, model).code, access_of(ada, model).role) == (AccessCode.OPEN_MODEL, "owner")


def test_holder_of_an_older_grant_owes_a_demanded_text(model: GatedModel, ada: Any) -> None:
    grant = grant_of(model, ada)
    assert owed_licences(grant) == []
    demand(model)
    assert owed_licences(grant) == list(LicenceVersion.objects.all())
    access = access_of(ada, model)
    assert (access.allowed, access.code) == (False, AccessCode.LICENCE_OWED)
    assert f"{model.address()}/access" in access.sentence
    assert codes_for(ada, [model]) == {model.pk: AccessCode.LICENCE_OWED}


def test_grant_given_after_the_demand_owes_nothing(model: GatedModel, ada: Any) -> None:
    demand(model)
    assert owed_licences(grant_of(model, ada)) == []
    assert access_of(ada, model).code == AccessCode.GRANTED


def test_request_accepted_before_the_demand_owes_it_and_after_it_does_not(
    model: GatedModel, ada: Any, make_person: Any, submit: Any
) -> None:
    GatedModel.objects.update(gate=Gate.AUTO)
    submit(ada, model)
    demand(model)
    sam = make_person("sam")
    submit(sam, model)
    assert access_of(ada, model).code == AccessCode.LICENCE_OWED
    assert access_of(sam, model).code == AccessCode.GRANTED


def test_retired_text_and_other_models_text_are_not_owed(
    model: GatedModel, ada: Any, make_model: Any
) -> None:
    grant_of(model, ada)
    demand(make_model("ai/other"))
    assert access_of(ada, model).code == AccessCode.GRANTED
    demand(model)
    LicenceVersion.objects.update(retired_at=timezone.now())
    assert access_of(ada, model).code == AccessCode.GRANTED


@pytest.mark.parametrize("role", ["owner", "reviewer"])
def test_owners_and_reviewers_are_not_stopped_by_a_demand(model: GatedModel, ada: Any, role: str) -> None:
    grant_of(model, ada)
    assign_role(model=model, user=ada, role=role)
    demand(model)
    assert access_of(ada, model).code == AccessCode.GRANTED
    assert codes_for(ada, [model]) == {model.pk: AccessCode.GRANTED}


def test_token_of_another_grant_opens_nothing_here(model: GatedModel, ada: Any, make_model: Any) -> None:
    grant_of(model, ada)
    elsewhere = grant_of(make_model("ai/other"), ada)
    token = tokens.issue_token(grant=elsewhere, user=ada, name="laptop").token
    assert access_of(ada, model, token=token).code == AccessCode.TOKEN_OUT_OF_SCOPE


def test_token_of_an_ended_grant_does_not_speak_for_its_successor(model: GatedModel, ada: Any) -> None:
    old = grant_of(model, ada)
    token = tokens.issue_token(grant=old, user=ada, name="laptop").token
    revoke_access(model=model, user=ada)
    grant_of(model, ada)
    assert access_of(ada, model, token=token).code == AccessCode.TOKEN_OUT_OF_SCOPE
    assert access_of(ada, model).code == AccessCode.GRANTED


def test_grant_that_ran_out_is_expired_at_once(model: GatedModel, ada: Any) -> None:
    grant_of(model, ada)
    now = timezone.now()
    Grant.objects.update(starts_at=now - timedelta(days=2), ends_at=now)
    found = model_and_access("ai/tulu", user=ada, token=None)
    assert found
    assert found[1].code == AccessCode.EXPIRED
