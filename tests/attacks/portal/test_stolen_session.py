"""A copied session cookie: what it may see, and that it can never take over the account."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.core.cache import cache
from django.test import Client

from access_requests.models import AccessToken, DeviceCode, Event, OutgoingMail, TrustedRepository
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from access_requests.services.oauth import codes
from portal.accounts.models import User
from tests.emails import pressing
from tests.sign_in import sign_in

pytestmark = pytest.mark.django_db
HOUR = 3600
PASSWORD = "a good password"
GITHUB = "https://token.actions.githubusercontent.com"
ASKED = (
    "/accounts/reauthenticate/",
    "/accounts/2fa/webauthn/reauthenticate/",
    "/accounts/2fa/reauthenticate/",
)


@pytest.fixture(autouse=True)
def no_limits_from_other_tests(db: None, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["tests.hashing.QuickHasher"]
    cache.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Ada is a reader of one model and a reviewer, so she may create every kind of token."""
    model, ada = make_model(), make_person("ada")
    grant_access(model=model, email=ada.email, days=30)
    assign_role(model=model, user=ada, role="reviewer")
    return ada


@pytest.fixture
def stolen(ada: Any) -> Client:
    """A copy of the cookie of a session that signed in an hour ago."""
    return sign_in(Client(), ada, ago=HOUR)


def device_code() -> DeviceCode:
    return codes.begin_sign_in(client_id="x", client="hf", address="203.0.113.7").code


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/accounts/email/", {"action_add": "", "email": "thief@example.org"}),
        ("/accounts/2fa/totp/activate/", {"code": "123456"}),
        ("/accounts/2fa/webauthn/add/", {"name": "mine", "credential": "{}"}),
        ("/accounts/2fa/recovery-codes/generate/", {}),
        ("/me/tokens", {"kind": "user", "name": "mine"}),
        ("/me/trusted", {"issuer": GITHUB, "repository": "thief/repo"}),
    ],
)
@pytest.mark.parametrize("confirmed", [True, False])
def test_old_session_is_asked_who_it_is_before_anything_changes(
    ada: Any, path: str, data: dict[str, str], confirmed: bool
) -> None:
    Authenticator.objects.create(user=ada, type=Authenticator.Type.WEBAUTHN, data={})
    events, tokens = Event.objects.count(), AccessToken.objects.count()
    stolen = sign_in(Client(), ada, ago=HOUR, confirmed=confirmed)
    answer = stolen.post(path, data)
    assert answer.status_code == 302
    assert answer["Location"].partition("?")[0] in ASKED
    ada.refresh_from_db()
    assert ada.email == "ada@example.org"
    assert EmailAddress.objects.filter(user=ada).count() == 1
    assert (Event.objects.count(), AccessToken.objects.count()) == (events, tokens)
    assert (Authenticator.objects.count(), TrustedRepository.objects.count(), pressing()) == (1, 0, [])
    assert stolen.get("/me/").status_code == 200


def test_email_and_factors_ask_even_right_after_a_sign_in(ada: Any) -> None:
    fresh = sign_in(Client(), ada)
    for path, data in (
        ("/accounts/email/", {"action_add": "", "email": "thief@example.org"}),
        ("/accounts/2fa/totp/activate/", {"code": "123456"}),
    ):
        assert fresh.post(path, data)["Location"].startswith(ASKED)


def test_fresh_sign_in_of_its_owner_lends_a_copy_elsewhere_nothing(ada: Any) -> None:
    owner = Client(REMOTE_ADDR="198.51.100.7")
    owner.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})
    thief = Client(REMOTE_ADDR="203.0.113.66")
    thief.cookies = owner.cookies
    assert thief.post("/me/tokens", {"kind": "user", "name": "mine"})["Location"].startswith(ASKED)
    assert owner.post("/me/tokens", {"kind": "user", "name": "mine"}).status_code == 200
    assert AccessToken.objects.filter(user=ada, grant=None).count() == 1


def test_password_is_not_changed_without_the_present_one(ada: Any, stolen: Client) -> None:
    new = {"password1": "the thief's password", "password2": "the thief's password"}
    answer = stolen.post("/accounts/password/change/", new | {"oldpassword": "a guess"})
    assert "Enter your current password." in answer.content.decode()
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)


def test_present_password_cannot_be_guessed_on_the_pages_of_a_stolen_session(
    ada: Any, stolen: Client
) -> None:
    new = {"password1": "the thief's password", "password2": "the thief's password"}
    for number in range(3):
        stolen.post("/accounts/password/change/", new | {"oldpassword": f"guess {number}"})
        stolen.post("/accounts/reauthenticate/", {"password": f"other {number}"})
    page = stolen.post("/accounts/password/change/", new | {"oldpassword": PASSWORD}).content.decode()
    assert "Too many attempts" in page
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)
    owner = Client(REMOTE_ADDR="198.51.100.7")
    assert owner.post("/accounts/login/", {"login": ada.email, "password": PASSWORD})["Location"] == "/me/"


def test_machine_of_the_thief_is_not_let_in(ada: Any, stolen: Client) -> None:
    code = device_code()
    data = {"user_code": code.user_code, "decision": "approve", "name": "thief's machine"}
    assert stolen.post("/oauth/activate", data)["Location"].startswith(ASKED)
    code.refresh_from_db()
    assert (code.state, code.machine) == ("waiting", None)
    assert stolen.post("/oauth/activate", data | {"decision": "deny"})["Location"] == "/me/machines"


def test_token_of_a_single_grant_asks_nothing(ada: Any, stolen: Client) -> None:
    shown = stolen.post("/ai/tulu/access/token")
    assert shown.status_code == 200
    assert "gth_" in shown.content.decode()


def test_ending_other_sessions_and_tokens_asks_nothing(ada: Any, stolen: Client) -> None:
    token = sign_in(Client(), ada).post("/me/tokens", {"kind": "user", "name": "x"})
    assert token.status_code == 200
    number = AccessToken.objects.get(grant=None).pk
    assert stolen.post(f"/me/tokens/{number}/revoke")["Location"] == "/me/tokens"
    assert stolen.post("/accounts/sessions/").status_code == 302


def test_post_left_behind_is_not_run_when_the_owner_confirms_something_else(ada: Any, stolen: Client) -> None:
    """A thief's unconfirmed POST is stored in the session shared with the owner."""
    Authenticator.objects.create(user=ada, type=Authenticator.Type.TOTP, data={"secret": "A" * 32})
    removal = "/accounts/2fa/totp/deactivate/"
    assert stolen.post(removal)["Location"].startswith(ASKED)
    assert stolen.get(removal)["Location"].startswith(ASKED)  # now the owner opens the page
    answer = stolen.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": removal})
    assert (answer.status_code, answer["Location"]) == (302, removal)
    assert Authenticator.objects.filter(user=ada, type=Authenticator.Type.TOTP).exists()


def test_staffs_stolen_session_changes_nobody_in_the_admin(make_person: Callable[..., Any], ada: Any) -> None:
    root = make_person("root", is_superuser=True)
    Authenticator.objects.create(user=root, type=Authenticator.Type.TOTP, data={"secret": "A" * 32})
    thief = sign_in(Client(), root, ago=HOUR)
    row = EmailAddress.objects.get(user=ada)
    for path, data in (
        (f"/admin/account/emailaddress/{row.pk}/change/", {"email": "thief@example.org"}),
        (f"/admin/accounts/user/{ada.pk}/change/", {"username": "ada", "is_superuser": "on"}),
        (f"/admin/mfa/authenticator/{root.authenticator_set.get().pk}/delete/", {"post": "yes"}),
        ("/admin/account/emailaddress/", {"action": "make_verified", "_selected_action": row.pk}),
    ):
        assert thief.post(path, data)["Location"].startswith(ASKED)
    assert User.objects.get(pk=ada.pk).email == "ada@example.org"
    assert not User.objects.get(pk=ada.pk).is_superuser
    assert Authenticator.objects.count() == 1


def test_whole_takeover_by_email_change_leaves_traces_even_with_the_password(
    ada: Any, stolen: Client
) -> None:
    """A thief who also has the password can change the address; the old one gets two emails, and it is logged."""
    asked = stolen.post("/accounts/email/", {"action_add": "", "email": "thief@example.org"})
    done = stolen.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": "/accounts/email/"})
    assert (asked.status_code, done["Location"]) == (302, "/accounts/confirm-email/")
    first = OutgoingMail.objects.get(to="ada@example.org", key__startswith="account:")
    assert "asked to change its email address to t***@example.org" in first.text
    code = re.search(r"^[A-Z0-9]{4}-[A-Z0-9]{4}$", pressing()[-1].text, re.MULTILINE)
    assert code
    stolen.post("/accounts/confirm-email/", {"code": code.group()})
    assert User.objects.get(pk=ada.pk).email == "thief@example.org"
    told = OutgoingMail.objects.filter(to="ada@example.org", subject="Your email address was changed").get()
    assert "reply to this email" in told.text
    kinds = list(Event.objects.filter(kind__startswith="account.").values_list("kind", flat=True))
    assert kinds == ["account.email_change_asked", "account.email_changed"]
    assert "thief@example.org" not in str([event.data for event in Event.objects.all()])
