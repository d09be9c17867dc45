"""Each change to how an account is protected is logged and reported by email."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Permission
from django.test import Client

from access_requests.errors import Conflict, NotAllowed
from access_requests.models import Event, OutgoingMail
from access_requests.services.catalogue.roles import assign_role
from portal.accounts.models import User
from portal.accounts.security import change_email_by_staff, change_password, masked
from tests.sign_in import sign_in, totp_code

REFUSAL = "Only a superuser may change the email address of someone who may enter the admin."

OLD = {"oldpassword": "a good password"}
NEW = {"password1": "a new engine 1", "password2": "a new engine 1"}


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


@pytest.fixture
def client(ada: Any) -> Client:
    return sign_in(Client(), ada, confirmed=True)


def kinds() -> list[str]:
    return list(Event.objects.order_by("pk").values_list("kind", flat=True))


def subjects(to: str = "ada@example.org") -> list[str]:
    return list(
        OutgoingMail.objects.filter(to=to, pressing=False).order_by("pk").values_list("subject", flat=True)
    )


def test_password_change_ends_the_other_sessions_and_is_told(ada: Any, client: Client) -> None:
    other = sign_in(Client(), ada)
    assert client.post("/accounts/password/change/", OLD | NEW).status_code == 302
    assert client.get("/me/").status_code == 200
    assert other.get("/me/").status_code == 302
    ada.refresh_from_db()
    assert ada.check_password(NEW["password1"])
    assert (kinds(), subjects()) == (["account.password_changed"], ["Your password was changed"])
    assert "from 127.0.0.1. All other sessions were signed out." in OutgoingMail.objects.get().text


def test_password_changed_meanwhile_is_a_conflict(ada: Any) -> None:
    change_password(user=User.objects.get(), password="a new engine 1", address="192.0.2.1")
    with pytest.raises(Conflict, match="changed a moment ago"):
        change_password(user=ada, password="another engine", address="192.0.2.1")
    assert kinds() == ["account.password_changed"]


def test_first_password_is_set_after_a_confirmation_and_never_kept_on_the_way(ada: Any) -> None:
    Authenticator.objects.create(user=ada, type=Authenticator.Type.WEBAUTHN, data={})
    ada.set_unusable_password()
    ada.save()
    old = sign_in(Client(), ada)
    posted = old.post("/accounts/password/set/", NEW)
    assert posted["Location"] == "/accounts/password/set/"
    assert NEW["password1"] not in str(dict(old.session))
    assert old.get("/accounts/password/set/")["Location"].startswith("/accounts/2fa/webauthn/")
    fresh = sign_in(Client(), ada, confirmed=True)
    assert "Set a password" in fresh.get("/accounts/password/set/").content.decode()
    assert fresh.post("/accounts/password/set/", NEW).status_code == 302
    assert (kinds(), fresh.get("/me/").status_code) == (["account.password_changed"], 200)


def test_email_change_is_announced_to_the_old_address_twice(
    ada: Any, client: Client, newest_code: Callable[[], str]
) -> None:
    other = sign_in(Client(), ada)
    other.get("/me/")
    asked = client.post("/accounts/email/", {"action_add": "", "email": "Countess@example.com"})
    assert asked["Location"] == "/accounts/confirm-email/"
    assert subjects() == ["Your email address is about to change"]
    assert User.objects.get().email == "ada@example.org"
    client.post("/accounts/confirm-email/", {"code": newest_code()})
    assert User.objects.get().email == "countess@example.com"
    assert list(EmailAddress.objects.values_list("email", flat=True)) == ["countess@example.com"]
    assert subjects() == ["Your email address is about to change", "Your email address was changed"]
    assert subjects("countess@example.com") == ["Your email address was changed"]
    assert kinds() == ["account.email_change_asked", "account.email_changed"]
    assert Event.objects.last().data == {
        "person": "ada",
        "old": "a***@example.org",
        "new": "c***@example.com",
    }
    assert (client.get("/me/").status_code, other.get("/me/").status_code) == (200, 302)


def test_confirming_the_first_address_is_no_change(client: Client, newest_code: Callable[[], str]) -> None:
    stranger = Client()
    names = {"first_name": "Eve", "last_name": "", "username": "", "email": "eve@example.org"}
    stranger.post("/accounts/signup/", names | {"password1": "a long engine"})
    stranger.post("/accounts/confirm-email/", {"code": newest_code()})
    assert stranger.get("/me/").status_code == 200
    assert (kinds(), OutgoingMail.objects.filter(pressing=False).count()) == ([], 0)


def test_factors_and_codes_leave_events_and_emails(ada: Any, client: Client) -> None:
    client.get("/accounts/2fa/totp/activate/")
    secret = client.session["mfa.totp.secret"]
    assert client.post("/accounts/2fa/totp/activate/", {"code": totp_code(secret)}).status_code == 302
    assert kinds() == ["account.recovery_codes_made", "account.factor_added"]
    assert client.post("/accounts/2fa/recovery-codes/generate/").status_code == 302
    assert client.post("/accounts/2fa/totp/deactivate/").status_code == 302
    assert kinds()[2:] == ["account.recovery_codes_made", "account.factor_removed"]
    assert subjects() == [
        "New recovery codes were made",
        "A second factor was added",
        "New recovery codes were made",
        "A second factor was removed",
    ]
    assert Event.objects.last().data == {"person": "ada", "factor": "totp"}
    assert Authenticator.objects.count() == 0


def test_all_model_tokens_and_trusted_repositories_are_told(ada: Any, client: Client) -> None:
    client.post("/me/tokens", {"name": "laptop"})
    form = {"issuer": "https://token.actions.githubusercontent.com", "repository": "acme/eval"}
    client.post("/me/trusted", form)
    assert kinds() == ["token.issued", "trusted.added"]
    assert subjects() == ["Token “laptop” was created", "CI jobs of acme/eval are trusted"]


@pytest.fixture
def root(make_person: Callable[..., Any], add_factor: Callable[[Any], None]) -> Client:
    root = make_person("root", is_superuser=True)
    add_factor(root)
    return sign_in(Client(), root, confirmed=True)


def test_staff_changes_an_address_with_event_and_emails(ada: Any, root: Client) -> None:
    row = EmailAddress.objects.get(user=ada)
    ada_elsewhere = sign_in(Client(), ada)
    ada_elsewhere.get("/me/")
    path = f"/admin/account/emailaddress/{row.pk}/change/"
    assert root.get(path).status_code == 200
    assert root.post(path, {"email": "new@example.org", "verified": "on"}).status_code == 302
    ada.refresh_from_db()
    assert ada.email == "new@example.org"
    event = Event.objects.get(kind="account.email_changed")
    assert (event.actor_name, event.data["person"]) == ("root", "ada")
    assert "by the people who run this portal" in OutgoingMail.objects.get(to="ada@example.org").text
    assert subjects("new@example.org") == ["Your email address was changed"]
    assert ada_elsewhere.get("/me/").status_code == 302


def test_staffs_change_goes_on_after_a_confirmation(ada: Any, root: Client) -> None:
    row = EmailAddress.objects.get(user=ada)
    path = f"/admin/account/emailaddress/{row.pk}/change/"
    staff = sign_in(Client(), User.objects.get(username="root"), ago=700)
    assert staff.post(path, {"email": "new@example.org", "verified": "on"}).status_code == 302
    assert User.objects.get(pk=ada.pk).email == "ada@example.org"
    done = staff.post("/accounts/reauthenticate/", {"password": "a good password", "next": path})
    assert done["Location"] == "/admin/account/emailaddress/"
    assert User.objects.get(pk=ada.pk).email == "new@example.org"


def test_staff_gives_nobody_the_address_of_another(ada: Any, root: Client) -> None:
    row = EmailAddress.objects.get(user=ada)
    path = f"/admin/account/emailaddress/{row.pk}/change/"
    page = root.post(path, {"email": "ROOT@example.org", "verified": "on"})
    assert (page.status_code, "Another account has this email address." in page.content.decode()) == (
        200,
        True,
    )
    assert (User.objects.get(pk=ada.pk).email, kinds()) == ("ada@example.org", [])


@pytest.fixture
def helper(make_person: Callable[..., Any], add_factor: Callable[[Any], None]) -> Any:
    """Return a staff member who may change accounts but is not a superuser."""
    person = make_person("helper")
    person.user_permissions.add(*Permission.objects.filter(content_type__app_label="account"))
    add_factor(person)
    return person


@pytest.mark.parametrize("in_list", [True, False])
def test_staff_without_all_rights_changes_no_address_of_staff(
    helper: Any, root: Client, in_list: bool
) -> None:
    EmailAddress.objects.filter(email="root@example.org").update(verified=False)
    row = EmailAddress.objects.get(email="root@example.org")
    path, data = (
        f"/admin/account/emailaddress/{row.pk}/change/",
        {"email": "thief@example.org", "verified": "on"},
    )
    if in_list:
        path, data = "/admin/account/emailaddress/", {"action": "make_verified", "_selected_action": row.pk}
    client = sign_in(Client(), helper, confirmed=True)
    page = client.post(path, data, follow=True)
    row.refresh_from_db()
    assert (row.email, row.verified) == ("root@example.org", False)
    assert User.objects.get(username="root").email == "root@example.org"
    assert (page.status_code, REFUSAL in page.content.decode()) == ((200, True) if in_list else (403, False))
    assert kinds() == []


def test_staff_without_all_rights_changes_the_address_of_others(ada: Any, helper: Any) -> None:
    row = EmailAddress.objects.get(user=ada)
    client = sign_in(Client(), helper, confirmed=True)
    data = {"email": "new@example.org", "verified": "on"}
    assert client.post(f"/admin/account/emailaddress/{row.pk}/change/", data).status_code == 302
    assert User.objects.get(pk=ada.pk).email == "new@example.org"


@pytest.mark.parametrize("rights", ["role", "permission", "superuser"])
def test_service_lets_only_a_superuser_change_the_address_of_staff(
    make_person: Callable[..., Any], make_model: Callable[..., Any], helper: Any, rights: str
) -> None:
    above = make_person("above", is_superuser=rights == "superuser")
    if rights == "role":
        assign_role(model=make_model(), user=above, role="auditor")
    if rights == "permission":
        above.user_permissions.add(Permission.objects.get(codename="add_gatedmodel"))
    row = EmailAddress.objects.get(user=above)
    change: dict[str, Any] = {
        "row": row,
        "email": "new@example.org",
        "verified": True,
        "address": "192.0.2.1",
    }
    with pytest.raises(NotAllowed, match=f"^{re.escape(REFUSAL)}$"):
        change_email_by_staff(actor=helper, **change)
    change_email_by_staff(actor=make_person("chief", is_superuser=True), **change)
    assert User.objects.get(pk=above.pk).email == "new@example.org"


def test_staff_marks_an_address_as_confirmed_with_an_event(ada: Any, root: Client) -> None:
    EmailAddress.objects.filter(user=ada).update(verified=False)
    row = EmailAddress.objects.get(user=ada)
    data = {"action": "make_verified", "_selected_action": row.pk}
    assert root.post("/admin/account/emailaddress/", data).status_code == 302
    row.refresh_from_db()
    assert (row.verified, kinds()) == (True, ["account.email_marked"])


@pytest.mark.parametrize("in_list", [True, False])
def test_staff_removes_a_factor_with_event_and_email(
    ada: Any, root: Client, add_factor: Callable[[Any], None], in_list: bool
) -> None:
    add_factor(ada)
    factor = Authenticator.objects.get(user=ada)
    path, data = f"/admin/mfa/authenticator/{factor.pk}/delete/", {"post": "yes"}
    if in_list:
        path = "/admin/mfa/authenticator/"
        data |= {"action": "delete_selected", "_selected_action": str(factor.pk)}
    assert root.post(path, data).status_code == 302
    event = Event.objects.get()
    assert (event.kind, event.actor_name, event.data) == (
        "account.factor_removed",
        "root",
        {"person": "ada", "factor": "totp"},
    )
    assert "by the people who run this portal" in OutgoingMail.objects.get(to=ada.email).text


@pytest.mark.parametrize(
    ("email", "shown"), [("ada@example.org", "a***@example.org"), ("é@x.org", "é***@x.org")]
)
def test_masked_address_shows_a_letter_and_the_host(email: str, shown: str) -> None:
    assert masked(email) == shown
