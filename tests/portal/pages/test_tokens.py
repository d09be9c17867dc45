"""A person's page of tokens: who may make which, and what can be seen, rotated and revoked."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.models import AccessToken, Event, Grant
from access_requests.services import tokens
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access, revoke_access
from tests.sign_in import sign_in

pytestmark = pytest.mark.django_db

PAGE = "/me/tokens"
SECRET = re.compile(r"gth_[0-9A-Za-z]{38}")


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    class People:
        ada, sam = make_person("ada"), make_person("sam")
        model = make_model()
        browser = Client()

    People.grant = grant_access(model=People.model, email=People.ada.email, days=30).grant
    sign_in(People.browser, People.ada)
    return People


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def test_anonymous_signs_in_and_comes_back(client: Client) -> None:
    assert client.get(PAGE)["Location"] == f"/accounts/login/?next={PAGE}"


def test_person_makes_a_token_that_is_shown_once_with_commands(people: Any) -> None:
    day = (timezone.now() + timedelta(days=3)).date()
    wishes = {"name": "cluster", "expires": day.isoformat(), "networks": "192.0.2.7, 2001:db8::/32"}
    shown = people.browser.post(PAGE, wishes)
    assert shown["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    secret = SECRET.search(page(shown))[0]
    for command in (
        f"export HF_TOKEN={secret}",
        "hf download ai/tulu",
        f'token="{secret}"',
        'AutoModelForCausalLM.from_pretrained("ai/tulu")',
        "vllm serve ai/tulu",
        "http://127.0.0.1:8000/ai/tulu/resolve/main/config.json",
        "192.0.2.7/32, 2001:db8::/32",
    ):
        assert command in page(shown)
    token = AccessToken.objects.get()
    assert (token.kind, token.grant, token.expires_at.date(), token.networks) == (
        TokenKind.USER,
        None,
        day,
        ["192.0.2.7/32", "2001:db8::/32"],
    )
    again, later = people.browser.post(PAGE, wishes), people.browser.get(PAGE)
    assert (again.status_code, AccessToken.objects.count()) == (409, 1)
    assert "cannot be shown again" in page(again)
    for response in (again, later):
        assert not SECRET.search(page(response))
        assert tokens.digest(secret) not in page(response)
    assert "only from 192.0.2.7/32" in page(later)
    assert token.hint in page(later)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        ({"name": ""}, 422, "There is a problem"),
        ({"name": "x", "expires": "2001-01-01"}, 400, "is in the past"),
        ({"name": "x", "expires": "9999-12-31"}, 400, "at most ten years from now"),
        ({"name": "x", "networks": "10.0.0.0/8, everywhere"}, 422, "'everywhere' is no network"),
        ({"name": "x", "networks": "10.1.2.3/8"}, 422, "which is 10.0.0.0/8"),
        ({"name": "\x07"}, 400, "visible characters"),
    ],
)
def test_bad_wishes_get_a_sentence_and_make_nothing(
    people: Any, data: dict[str, str], status: int, said: str
) -> None:
    response = people.browser.post(PAGE, data)
    assert response.status_code == status
    assert said in page(response)
    assert not AccessToken.objects.exists()


def add_second_factor(person: Any) -> None:
    Authenticator.objects.create(user=person, type=Authenticator.Type.TOTP, data={})


@pytest.mark.parametrize("is_superuser", [True, False])
def test_reviewers_token_is_made_and_rotated_with_a_second_factor_alone(
    people: Any, make_person: Any, client: Client, is_superuser: bool
) -> None:
    rita = make_person("rita", is_superuser=is_superuser)
    assign_role(model=people.model, user=rita, role="reviewer")
    old = tokens.issue_person_token(user=rita, kind=TokenKind.REVIEWER, name="old").token
    reads = tokens.issue_person_token(user=rita, kind=TokenKind.USER, name="reads").token
    sign_in(client, rita)
    asked = [
        (PAGE, {"kind": "reviewer", "name": "desk"}),
        (f"{PAGE}/{old.pk}/rotate", {"overlap": "now"}),
    ]
    for address, data in asked:
        refused = client.post(address, data, follow=True)
        assert refused.redirect_chain == [("/accounts/2fa/", 302)]
        assert "A reviewer token needs a second factor" in page(refused)
    assert AccessToken.objects.filter(user=rita, kind=TokenKind.REVIEWER).count() == 1
    assert client.post(PAGE, {"kind": "user", "name": "x"}).status_code == 200
    assert client.post(f"{PAGE}/{reads.pk}/rotate", {"overlap": "now"}).status_code == 200
    add_second_factor(rita)
    for address, data in asked:
        shown = page(client.post(address, data))
        assert SECRET.search(shown)
        assert "export HF_HUB_DISABLE_XET=1\nhf upload ai/tulu ./folder ." in shown


def test_only_those_with_a_role_may_make_a_reviewers_token(people: Any, client: Client) -> None:
    assert "Reviewer token: decides" not in page(people.browser.get(PAGE))
    people.browser.post(PAGE, {"name": "x", "kind": "reviewer"})
    assert AccessToken.objects.get().kind == TokenKind.USER
    assign_role(model=people.model, user=people.sam, role="reviewer")
    sign_in(client, people.sam)
    add_second_factor(people.sam)
    assert "Reviewer token: decides" in page(client.get(PAGE))
    shown = page(client.post(PAGE, {"name": "desk", "kind": "reviewer"}))
    assert 'api.list_pending_access_requests("ai/tulu")' in shown
    assert people.sam.access_tokens.get().kind == TokenKind.REVIEWER
    assert client.post(PAGE, {"name": "y", "kind": "grant"}).status_code == 422


def test_page_shows_tokens_of_grants_and_where_they_were_used(people: Any) -> None:
    tokens.flush_uses()  # left in this process by other tests
    issued = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop")
    tokens.authenticate(issued.secret, address="2001:db8::7", client="hf_hub/2.4.0; python/3.12")
    assert ">never<" in people.browser.get(PAGE).content.decode()
    assert tokens.flush_uses() == 1
    shown = page(people.browser.get(PAGE))
    assert "from 2001:db8::7" in shown
    assert "hf_hub/2.4.0; python/3.12" in shown
    assert f'with your access, <span class="nowrap">{people.grant.ends_at:%Y-%m-%d}</span>' in shown


def test_page_shows_nobody_elses_tokens_and_none_of_machines(people: Any, make_person: Any) -> None:
    tokens.issue_person_token(user=people.sam, kind=TokenKind.USER, name="sams laptop")
    tokens.issue_person_token(
        user=people.ada, kind=TokenKind.USER, name="adas machine", origin=TokenOrigin.DEVICE
    )
    shown = page(people.browser.get(PAGE))
    assert "sams laptop" not in shown
    assert "adas machine" not in shown


def test_rotation_shows_the_successor_once_and_says_how_long_the_old_one_lives(people: Any) -> None:
    old = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop")
    address = f"{PAGE}/{old.token.pk}/rotate"
    assert "laptop" in page(people.browser.get(address))
    assert AccessToken.objects.count() == 1
    shown = page(people.browser.post(address, {"overlap": "1d"}))
    secret = SECRET.search(shown)[0]
    new = tokens.authenticate(secret)
    assert (new.name, new.grant) == ("laptop", people.grant)
    assert tokens.authenticate(old.secret) == old.token
    old.token.refresh_from_db()
    assert f"works until {old.token.expires_at:%-d %B %Y, %H:%M} UTC" in shown
    again = people.browser.post(address, {"overlap": "1d"})
    assert (again.status_code, SECRET.search(page(again))) == (409, None)
    listed = page(people.browser.get("/ai/tulu/access"))
    assert f"/me/tokens/{new.pk}/rotate" in listed
    assert f"/me/tokens/{old.token.pk}/rotate" not in listed
    assert "replaced" in listed


@pytest.mark.parametrize("overlap", ["", "2d", "1d\0"])
def test_unknown_overlap_rotates_nothing(people: Any, overlap: str) -> None:
    old = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop").token
    assert people.browser.post(f"{PAGE}/{old.pk}/rotate", {"overlap": overlap}).status_code == 422
    assert AccessToken.objects.count() == 1


def test_token_of_another_person_is_not_found(people: Any, client: Client) -> None:
    token = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop").token
    sign_in(client, people.sam)
    for number in (token.pk, 10**17, 10**30):
        assert client.get(f"{PAGE}/{number}/rotate").status_code == 404
        assert client.post(f"{PAGE}/{number}/rotate", {"overlap": "now"}).status_code == 404
        assert client.get(f"{PAGE}/{number}/revoke").status_code == 404
        assert client.post(f"{PAGE}/{number}/revoke").status_code == 404
    assert AccessToken.objects.get().revoked_at is None


def test_revoked_token_stays_in_sight(people: Any) -> None:
    token = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop").token
    asked = people.browser.get(f"{PAGE}/{token.pk}/revoke")
    for words in (
        "Revoke “laptop”?",
        token.hint,
        "downloading ai/tulu",
        "never",
        "You cannot undo this",
    ):
        assert words in page(asked), words
    assert f'href="{PAGE}/{token.pk}/rotate"' in page(asked)
    assert "no-store" in asked["Cache-Control"]
    token.refresh_from_db()
    assert token.revoked_at is None
    assert people.browser.post(f"{PAGE}/{token.pk}/revoke")["Location"] == PAGE
    shown = page(people.browser.get(PAGE))
    assert 'class="badge revoked"' in shown
    assert f"/me/tokens/{token.pk}/rotate" not in shown
    assert people.browser.get(f"{PAGE}/{token.pk}/revoke")["Location"] == PAGE


def test_end_beyond_the_grants_is_said_to_be_cut(people: Any) -> None:
    day = (people.grant.ends_at + timedelta(days=30)).date()
    shown = people.browser.post("/ai/tulu/access/tokens", {"name": "long", "expires": day.isoformat()})
    said = f"you chose {day}, but a token cannot outlive your access"
    for response in (shown, people.browser.get(PAGE), people.browser.get("/ai/tulu/access")):
        assert said in page(response)


def test_tokens_of_an_ended_grant_are_shown_as_ended(people: Any) -> None:
    tokens.issue_token(grant=people.grant, user=people.ada, name="laptop")
    now = timezone.now()
    Grant.objects.update(starts_at=now - timedelta(days=2), ends_at=now - timedelta(days=1))
    shown = page(people.browser.get(PAGE))
    assert 'class="badge expired"' in shown
    assert "Revoke laptop" not in shown
    assert "your access ended" in shown


def test_tokens_of_a_revoked_grant_say_since_when_and_why(people: Any) -> None:
    tokens.issue_token(grant=people.grant, user=people.ada, name="laptop")
    revoke_access(model=people.model, user=people.ada, reason="Found on a <b>public</b> server.")
    answer = people.browser.get(PAGE)
    assert b"<b>public</b>" not in answer.content
    assert "your access was revoked: Found on a <b>public</b> server." in page(answer)
    assert f'access revoked</span> <span class="nowrap">{timezone.now():%Y-%m-%d}' in page(answer)


@pytest.mark.parametrize(
    ("rotated", "why"), [(False, "its last day has passed"), (True, "replaced by rotation")]
)
def test_token_that_ended_by_itself_says_why(people: Any, rotated: bool, why: str) -> None:
    token = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop").token
    if rotated:
        tokens.rotate_token(token=token, user=people.ada, overlap="1h")
    AccessToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(minutes=1))
    assert why in page(people.browser.get(PAGE))


def test_names_and_networks_are_inert(people: Any) -> None:
    people.browser.post(PAGE, {"name": "<script>alert(1)</script>"})
    assert b"<script>alert" not in people.browser.get(PAGE).content
    response = people.browser.post(PAGE, {"name": "x", "networks": "<script>alert(1)</script>"})
    assert b"<script>alert" not in response.content


def test_posts_need_the_forms_token(people: Any) -> None:
    token = tokens.issue_token(grant=people.grant, user=people.ada, name="laptop").token
    strict = Client(enforce_csrf_checks=True)
    sign_in(strict, people.ada)
    for address in (
        PAGE,
        f"{PAGE}/{token.pk}/rotate",
        f"{PAGE}/{token.pk}/revoke",
        "/ai/tulu/access/licence",
    ):
        assert strict.post(address, {"name": "x", "overlap": "now"}).status_code == 403
    assert AccessToken.objects.count() == 1


def test_no_secret_is_in_an_event(people: Any) -> None:
    shown = page(people.browser.post(PAGE, {"name": "x"}))
    token = AccessToken.objects.get()
    rotated = page(people.browser.post(f"{PAGE}/{token.pk}/rotate", {"overlap": "now"}))
    kinds = list(Event.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds[-3:] == ["token.issued", "token.issued", "token.rotated"]
    logged = repr([event.data for event in Event.objects.all()])
    for response in (shown, rotated):
        secret = SECRET.search(response)[0]
        assert secret not in logged
        assert tokens.digest(secret) not in logged
