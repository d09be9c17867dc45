"""A recent sign-in: what counts, how a person confirms, and that no input is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth import get_user_model
from django.test import Client

from access_requests.models import AccessToken, Machine, TrustedRepository
from access_requests.services.oauth import codes
from tests.emails import pressing
from tests.sign_in import sign_in

GITHUB = "https://token.actions.githubusercontent.com"
PASSWORD = {"password": "a good password"}
ASKED = "/accounts/reauthenticate/?next="


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


@pytest.mark.parametrize(
    ("ago", "confirmed", "address", "status"),
    [
        (0, False, "127.0.0.1", 200),
        (590, False, "127.0.0.1", 200),
        (601, False, "127.0.0.1", 302),
        (601, True, "127.0.0.1", 302),
        (0, True, "127.0.0.1", 200),
    ],
)
def test_token_for_all_models_takes_a_sign_in_of_the_last_ten_minutes(
    ada: Any, ago: int, confirmed: bool, address: str, status: int
) -> None:
    client = sign_in(Client(REMOTE_ADDR=address), ada, ago=ago, confirmed=confirmed)
    assert client.post("/me/tokens", {"name": "laptop"}).status_code == status


@pytest.mark.parametrize(("confirmed", "status"), [(False, 302), (True, 200)])
def test_account_pages_take_a_confirmation_alone(ada: Any, confirmed: bool, status: int) -> None:
    client = sign_in(Client(), ada, confirmed=confirmed)
    assert client.get("/accounts/2fa/totp/activate/").status_code == status


def test_confirmed_post_goes_on_with_what_was_typed(ada: Any) -> None:
    client = sign_in(Client(), ada, ago=700)
    asked = client.post("/me/tokens", {"name": "a cluster", "networks": "192.0.2.0/24"})
    assert asked["Location"] == f"{ASKED}%2Fme%2Ftokens"
    page = client.get(asked["Location"]).content.decode()
    assert "After that you continue where you were." in page
    wrong = client.post("/accounts/reauthenticate/", {"password": "wrong", "next": "/me/tokens"})
    assert "This is not your current password: try again." in wrong.content.decode()
    shown = client.post("/accounts/reauthenticate/", PASSWORD | {"next": "/me/tokens"}).content.decode()
    assert "gth_" in shown
    token = AccessToken.objects.get()
    assert (token.name, token.networks) == ("a cluster", ["192.0.2.0/24"])
    assert client.get("/me/tokens").status_code == 200


def test_confirming_with_an_outdated_hash_keeps_the_session(ada: Any) -> None:
    """Django upgrades the hash when it checks the password, which would end sessions with the old hash."""
    client = sign_in(Client(), ada, ago=700)
    before = ada.password
    client.post("/accounts/reauthenticate/", PASSWORD | {"next": "/me/"})
    ada.refresh_from_db()
    assert ada.password != before
    assert client.get("/me/").status_code == 200


def test_bad_input_is_said_before_anybody_is_asked_to_confirm(ada: Any) -> None:
    client = sign_in(Client(), ada, ago=700)
    assert client.post("/me/tokens", {"name": ""}).status_code == 422
    assert client.post("/me/trusted", {"issuer": GITHUB, "repository": ""}).status_code == 422


def test_machine_is_approved_after_a_confirmation_with_the_name_typed(ada: Any) -> None:
    client = sign_in(Client(), ada, ago=700)
    code = codes.begin_sign_in(client_id="x", client="hf", address="203.0.113.7").code
    approve = {"user_code": code.user_code, "decision": "approve", "name": "the cluster"}
    assert client.get(f"/oauth/activate?user_code={code.user_code}").status_code == 200
    asked = client.post("/oauth/activate", approve)
    assert asked["Location"] == f"{ASKED}%2Foauth%2Factivate"
    done = client.post("/accounts/reauthenticate/", PASSWORD | {"next": "/oauth/activate"})
    assert (done["Location"], Machine.objects.get().name) == ("/me/machines", "the cluster")


def test_repository_is_trusted_after_a_confirmation(ada: Any) -> None:
    client = sign_in(Client(), ada, ago=700)
    form = {"issuer": GITHUB, "repository": "acme/eval", "ref": "refs/heads/main"}
    assert client.post("/me/trusted", form)["Location"] == f"{ASKED}%2Fme%2Ftrusted"
    client.post("/accounts/reauthenticate/", PASSWORD | {"next": "/me/trusted"})
    assert TrustedRepository.objects.get().ref == "refs/heads/main"


def test_rotation_asks_for_tokens_of_all_models_and_not_for_a_grants(
    ada: Any, make_model: Callable[..., Any]
) -> None:
    from access_requests.services.grants import grant_access
    from access_requests.services.tokens import issue_person_token, issue_token

    grant = grant_access(model=make_model(), email=ada.email, days=30).grant
    of_grant = issue_token(grant=grant, user=ada, name="one").token
    of_all = issue_person_token(user=ada, kind="user", name="all").token
    client = sign_in(Client(), ada, ago=700)
    asked = client.post(f"/me/tokens/{of_all.pk}/rotate", {"overlap": "now"})
    assert asked["Location"] == f"{ASKED}%2Fme%2Ftokens%2F{of_all.pk}%2Frotate"
    assert client.post(f"/me/tokens/{of_grant.pk}/rotate", {"overlap": "now"}).status_code == 200


def test_person_with_a_passkey_alone_confirms_by_it(ada: Any) -> None:
    Authenticator.objects.create(user=ada, type=Authenticator.Type.WEBAUTHN, data={})
    ada.set_unusable_password()
    ada.save()
    client = sign_in(Client(), ada, ago=700)
    asked = client.post("/me/tokens", {"name": "laptop"})
    assert asked["Location"].startswith("/accounts/2fa/webauthn/reauthenticate/?next=")


def test_person_with_neither_password_nor_factor_gets_a_link_by_email(ada: Any) -> None:
    ada.set_unusable_password()
    ada.save()
    client = sign_in(Client(), ada, ago=700)
    asked = client.post("/me/tokens", {"name": "laptop"})
    assert asked["Location"] == "/accounts/reauthenticate/link/?next=%2Fme%2Ftokens"
    assert "Email me the link" in client.get(asked["Location"]).content.decode()
    assert client.get("/accounts/2fa/totp/activate/").status_code == 302
    client.post("/accounts/reauthenticate/link/")
    assert [m.subject for m in pressing()] == ["Set a new password"]


def test_code_of_an_app_confirms_as_well_and_wrong_ones_are_counted(
    ada: Any, add_factor: Callable[[Any], None]
) -> None:
    add_factor(ada)
    client = sign_in(Client(), ada, ago=700)
    assert "Use a code" in client.get(f"{ASKED}/me/tokens").content.decode()
    pages = [
        client.post("/accounts/2fa/reauthenticate/", {"code": "000000x"}).content.decode() for _ in range(6)
    ]
    assert ["Too many attempts" in page for page in pages] == [False] * 5 + [True]


def test_sign_in_is_remembered_with_its_network(ada: Any) -> None:
    client = Client(REMOTE_ADDR="2001:db8::1")
    client.post("/accounts/login/", {"login": ada.email} | PASSWORD)
    assert [r["from"] for r in client.session["account_authentication_methods"]] == ["2001:db8::/64"]
    assert client.post("/me/tokens", {"name": "a"}, REMOTE_ADDR="2001:db8::2").status_code == 200
    assert client.post("/me/tokens", {"name": "b"}, REMOTE_ADDR="192.0.2.1").status_code == 302
    assert get_user_model().objects.get().pk == ada.pk
