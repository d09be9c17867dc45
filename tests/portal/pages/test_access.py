"""The download page: a secret is shown in one response and never again."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access_requests.enums import Gate
from access_requests.models import AccessToken, Grant, LicenceAcceptance, LicenceVersion
from access_requests.services.catalogue.edit import add_licence
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from access_requests.services.tokens import authenticate, digest

pytestmark = pytest.mark.django_db

PAGE = "/ai/tulu/access"
SECRET = re.compile(r"gth_[0-9A-Za-z]{38}")


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    class People:
        ada, sam = make_person("ada"), make_person("sam")
        model = make_model()
        browser = Client()

    grant_access(model=People.model, email=People.ada.email, days=30)
    People.browser.force_login(People.ada)
    return People


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def test_anonymous_signs_in_and_comes_back(people: Any, client: Client) -> None:
    assert client.get(PAGE)["Location"] == f"/accounts/login/?next={PAGE}"


def test_stranger_reads_why_not_and_where_to_go(people: Any, client: Client) -> None:
    client.force_login(people.sam)
    response = client.get(PAGE)
    assert response.status_code == 403
    assert "Ask for access at" in page(response)
    assert "tokens-title" not in page(response)
    for path in ("token", "tokens"):
        assert client.post(f"{PAGE}/{path}", {"name": "x"})["Location"] == PAGE
    assert not AccessToken.objects.exists()


def test_reviewer_is_told_where_their_tokens_are_made(people: Any, client: Client) -> None:
    assign_role(model=people.model, user=people.sam, role="reviewer")
    client.force_login(people.sam)
    response = client.get(PAGE)
    assert response.status_code == 200
    assert 'Make a token at <a href="/me/tokens">' in page(response)


def test_first_token_is_shown_once_and_not_stored_by_the_browser(people: Any) -> None:
    assert "Show my token" in page(people.browser.get(PAGE))
    shown = people.browser.post(f"{PAGE}/token")
    secrets = set(SECRET.findall(page(shown)))
    assert shown.status_code == 200
    assert "no-store" in shown["Cache-Control"]
    assert len(secrets) == 1
    secret = secrets.pop()
    assert authenticate(secret).user == people.ada
    for command in (
        f"export HF_TOKEN={secret}",
        "export HF_ENDPOINT=http://127.0.0.1:8000",
        "hf download ai/tulu",
        f'    endpoint="http://127.0.0.1:8000",\n    token="{secret}",\n)',
        'AutoModelForCausalLM.from_pretrained("ai/tulu")',
        "vllm serve ai/tulu",
        'curl -fL -C - -O -H "Authorization: Bearer $HF_TOKEN"',
        "  http://127.0.0.1:8000/ai/tulu/resolve/main/config.json",
    ):
        assert command in page(shown)
    reloaded = people.browser.post(f"{PAGE}/token")
    assert reloaded.status_code == 409
    assert "cannot be shown again" in page(reloaded)
    later = people.browser.get(PAGE)
    for response in (reloaded, later):
        assert not SECRET.search(page(response))
        assert digest(secret) not in page(response)
    assert "Show my token" not in page(later)
    assert people.browser.get(f"{PAGE}/token")["Location"] == PAGE
    assert AccessToken.objects.count() == 1


def test_another_token_has_a_name_and_a_last_day(people: Any) -> None:
    day = (timezone.now() + timedelta(days=3)).date()
    shown = people.browser.post(f"{PAGE}/tokens", {"name": "cluster", "expires": day.isoformat()})
    assert SECRET.search(page(shown))
    token = AccessToken.objects.get()
    assert (token.name, token.expires_at.date()) == ("cluster", day)
    reloaded = people.browser.post(f"{PAGE}/tokens", {"name": "cluster", "expires": day.isoformat()})
    assert reloaded.status_code == 409
    assert not SECRET.search(page(reloaded))
    assert "cannot be shown again" in page(reloaded)
    assert AccessToken.objects.count() == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"name": ""}, 422),
        ({"name": "x", "expires": "2001-01-01"}, 400),
        ({"name": "x", "expires": "no"}, 422),
    ],
)
def test_bad_token_wishes_get_a_sentence_and_make_nothing(
    people: Any, data: dict[str, str], status: int
) -> None:
    response = people.browser.post(f"{PAGE}/tokens", data)
    assert response.status_code == status
    assert "There is a problem" in page(response)
    assert not AccessToken.objects.exists()


def test_token_is_revoked_by_its_person_alone(people: Any, client: Client) -> None:
    people.browser.post(f"{PAGE}/token")
    token = AccessToken.objects.get()
    grant_access(model=people.model, email=people.sam.email, days=1)
    client.force_login(people.sam)
    assert client.post(f"{PAGE}/tokens/{token.pk}/revoke").status_code == 404
    assert client.get(f"{PAGE}/tokens/{token.pk}/revoke").status_code == 404
    asked = page(people.browser.get(f"{PAGE}/tokens/{token.pk}/revoke"))
    assert f"Revoke “{token.name}”?" in asked
    assert f'<a class="button secondary" href="{PAGE}">Keep it</a>' in asked
    assert AccessToken.objects.get().revoked_at is None
    assert people.browser.post(f"{PAGE}/tokens/{token.pk}/revoke")["Location"] == PAGE
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert "revoked" in page(people.browser.get(PAGE))


def test_ended_grant_closes_the_page_and_makes_no_token(people: Any) -> None:
    now = timezone.now()
    Grant.objects.update(starts_at=now - timedelta(days=2), ends_at=now - timedelta(days=1))
    assert people.browser.get(PAGE).status_code == 403
    assert people.browser.post(f"{PAGE}/token")["Location"] == PAGE
    assert not AccessToken.objects.exists()


def test_token_names_are_inert(people: Any) -> None:
    people.browser.post(f"{PAGE}/tokens", {"name": "<script>alert(1)</script>"})
    assert b"<script>alert" not in people.browser.get(PAGE).content
    assert b"<script>alert" not in people.browser.get("/me/").content


def test_model_without_gate_needs_no_token(people: Any, make_model: Any) -> None:
    make_model(
        "ai/open", gate=Gate.NONE, card="---\nlicense: mit\n---\n## Input format\n\n```\n<|user|>\n```\n"
    )
    shown = page(people.browser.get("/ai/open/access"))
    assert "no token is needed" in shown
    assert "HF_TOKEN" not in shown
    assert "&lt;|user|&gt;" in people.browser.get("/ai/open/access").content.decode()


def test_posts_need_the_forms_token(people: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(people.ada)
    for address in (f"{PAGE}/token", f"{PAGE}/tokens", "/ai/tulu/request", "/ai/tulu/request/withdraw"):
        assert strict.post(address).status_code == 403
    assert not AccessToken.objects.exists()


@pytest.fixture
def demanded(people: Any) -> LicenceVersion:
    text = LicenceText("licence.txt", "en", "Be <b>better</b>.\n")
    return add_licence(model=people.model, licence=text, must_accept=True).licence


def test_holder_reads_the_demanded_text_and_agrees_before_the_tokens(
    people: Any, demanded: LicenceVersion
) -> None:
    response = people.browser.get(PAGE)
    assert response.status_code == 200
    assert "Be &lt;b&gt;better&lt;/b&gt;." in response.content.decode()
    assert demanded.sha256 in page(response)
    assert "tokens-title" not in page(response)
    for path in ("/", "/ai/tulu", "/me/"):
        assert people.browser.get(path).status_code == 200
    assert "Accept the new licence first" in page(people.browser.get("/ai/tulu"))
    assert "Read and accept the licence" in page(people.browser.get("/ai/tulu"))
    assert "once your request is approved" not in page(people.browser.get("/ai/tulu"))
    assert "accept the new licence" in page(people.browser.get("/"))
    refused = people.browser.post(f"{PAGE}/licence", {"licence": demanded.pk})
    assert refused.status_code == 400
    assert "Tick the box to agree" in page(refused)
    assert not LicenceAcceptance.objects.exists()
    agreed = people.browser.post(f"{PAGE}/licence", {"licence": demanded.pk, "agree": "on"})
    assert agreed["Location"] == PAGE
    stored = LicenceAcceptance.objects.get()
    assert (stored.user, stored.licence, stored.sha256, stored.request) == (
        people.ada,
        demanded,
        demanded.sha256,
        None,
    )
    assert "tokens-title" in page(people.browser.get(PAGE))


def test_agreement_to_a_text_that_was_replaced_meanwhile_counts_for_nothing(
    people: Any, demanded: LicenceVersion
) -> None:
    newer = LicenceText("licence.txt", "en", "Be best.\n")
    add_licence(model=people.model, licence=newer, must_accept=True)
    for shown in ([demanded.pk], [], ["x", "9" * 30, "-1"]):
        answer = people.browser.post(f"{PAGE}/licence", {"licence": shown, "agree": "on"})
        assert answer.status_code == 409
        assert "Be best." in page(answer)
    assert not LicenceAcceptance.objects.exists()


def test_stranger_cannot_agree(people: Any, demanded: LicenceVersion, client: Client) -> None:
    client.force_login(people.sam)
    answer = client.post(f"{PAGE}/licence", {"licence": demanded.pk, "agree": "on"})
    assert answer.status_code == 403
    assert not LicenceAcceptance.objects.exists()
    assert client.get(f"{PAGE}/licence").status_code == 405
