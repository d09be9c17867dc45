"""The model's page: a panel for each state of access, and cards that cannot harm the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access_requests.enums import Gate, Outcome, Place, ReasonCode
from access_requests.models import Grant
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.submit import appeal_request, start_request, withdraw_request
from tests.conftest import TULU_CARD

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any) -> Any:
    """Return applicant ada, reviewers rita and olga, stranger sam, a model, and ada's browser."""

    class People:
        ada, rita, olga, sam = (make_person(name) for name in ("ada", "rita", "olga", "sam"))
        model = make_model()
        browser = Client()

        @classmethod
        def page(cls) -> str:
            response = cls.browser.get("/ai/tulu")
            assert response.status_code == 200
            return text_of(response)

        @classmethod
        def ask(cls) -> Any:
            return submit(cls.ada, cls.model)

    for person in (People.rita, People.olga):
        assign_role(model=People.model, user=person, role="reviewer")
    People.browser.force_login(People.ada)
    return People


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


def decide(request: Any, reviewer: Any, outcome: Outcome, **fields: str) -> None:
    fields.setdefault("words", "Say more about the use.")
    record_decision(request=request, reviewer=reviewer, outcome=outcome, **fields)


def test_anonymous_is_asked_to_sign_in_and_comes_back(people: Any, client: Client) -> None:
    page = text_of(client.get("/ai/tulu"))
    assert "/accounts/signup/?next=/ai/tulu" in page
    assert "/accounts/login/?next=/ai/tulu" in page
    assert "A reviewer reads every request" in page


def test_member_who_never_asked_is_offered_the_form(people: Any) -> None:
    page = people.page()
    assert "You have not asked for this model yet" in page
    assert 'href="/ai/tulu/request"' in page


def test_draft_says_that_nobody_reads_it(people: Any) -> None:
    start_request(model=people.model, applicant=people.ada)
    assert "Your request is a draft" in people.page()


def test_waiting_request_shows_its_place_and_stage(people: Any, submit: Any) -> None:
    submit(people.sam, people.model)
    people.ask()
    page = people.page()
    assert "Your request is waiting for a reviewer" in page
    assert "<dt>Place in the queue</dt><dd>2</dd>" in page
    assert '<li class="now" aria-current="step">In review' in page


def test_changes_requested_shows_the_reviewers_words(people: Any) -> None:
    decide(people.ask(), people.rita, Outcome.CHANGES_REQUESTED, words="Which <b>data</b>?")
    page = people.page()
    assert "The reviewer asks you for changes" in page
    assert "Which &lt;b&gt;data&lt;/b&gt;?" in page


def test_rejected_shows_reason_words_and_one_appeal(people: Any) -> None:
    request = people.ask()
    decide(request, people.rita, Outcome.REJECTED, reason_code=ReasonCode.USE_UNCLEAR)
    page = people.page()
    assert "Reason: the intended use is not described well enough." in page
    assert "Say more about the use." in page
    assert 'action="/ai/tulu/request/appeal"' in page
    assert "Ask again" in page
    appeal_request(request=request, applicant=people.ada, words="It is described.")
    assert "Your appeal is waiting for a reviewer" in people.page()
    decide(request, people.olga, Outcome.REJECTED, reason_code=ReasonCode.OTHER)
    page = people.page()
    assert "Your request was rejected after your appeal" in page
    assert "/request/appeal" not in page


def test_withdrawn_can_ask_again(people: Any) -> None:
    withdraw_request(request=people.ask(), applicant=people.ada)
    assert "You withdrew your request" in people.page()


def test_reset_shows_the_words_and_offers_the_form_again(people: Any) -> None:
    request = people.ask()
    decide(request, people.rita, Outcome.RESET, words="The form is <new>.")
    page = people.page()
    assert f"A reviewer closed request #{request.pk}" in page
    assert "The form is &lt;new&gt;." in page
    assert 'href="/ai/tulu/request"' in page
    assert "Appeal" not in page
    catalogue = text_of(people.browser.get("/"))
    assert "closed: you may ask again" in catalogue
    assert '<span class="badge reset">closed without decision</span>' in text_of(people.browser.get("/me/"))
    form = text_of(people.browser.get("/ai/tulu/request"))
    assert 'value="Analytical Society"' in form


def test_reopened_request_is_in_review_again_without_access(people: Any) -> None:
    request = people.ask()
    decide(request, people.rita, Outcome.APPROVED)
    change_place(model=people.model, person=people.ada, to=Place.PENDING, reviewer=people.olga)
    page = people.page()
    assert "A reviewer is looking at your request" in page
    assert "Download and token" not in page


def test_granted_leads_to_the_download_page(people: Any) -> None:
    decide(people.ask(), people.rita, Outcome.APPROVED, words="")
    page = people.page()
    assert "You may read this model until" in page
    assert 'href="/ai/tulu/access"' in page
    assert 'aria-current="step">Weights' in page


def test_expired_and_revoked_say_so(people: Any) -> None:
    grant_access(model=people.model, email=people.ada.email, days=30)
    now = timezone.now()
    Grant.objects.update(starts_at=now - timedelta(days=2), ends_at=now - timedelta(days=1))
    assert "Your access ended on" in people.page()
    grant_access(model=people.model, email=people.ada.email, days=30)
    revoke_access(model=people.model, user=people.ada, reason="Shared the weights.")
    page = people.page()
    assert "Your access was revoked on" in page
    assert "Shared the weights." in page


def test_reviewer_is_told_the_role(people: Any) -> None:
    people.browser.force_login(people.rita)
    assert "You are an owner or reviewer of this model" in people.page()
    start_request(model=people.model, applicant=people.rita)
    assert "Continue my request" in people.page()


def test_model_without_gate_is_open(people: Any, make_model: Any, client: Client) -> None:
    make_model("ai/open", gate=Gate.NONE)
    page = text_of(client.get("/ai/open"))
    assert "Anyone may read this model" in page
    assert "HF_TOKEN" not in page


def test_hidden_model_is_unknown_to_strangers_alone(people: Any, make_model: Any, client: Client) -> None:
    hidden = make_model("ai/hidden", listed=False)
    unknown = client.get("/ai/nothing")
    assert (unknown.status_code, client.get("/ai/hidden").status_code) == (404, 404)
    assert client.get("/ai/hidden").content == unknown.content.replace(b"ai/nothing", b"ai/hidden")
    assert people.browser.get("/ai/hidden").status_code == 404
    for path in ("request", "access", "licences", "request/withdraw", "request/appeal"):
        assert people.browser.get(f"/ai/hidden/{path}").status_code == 404
    grant_access(model=hidden, email=people.ada.email, days=1)
    assert people.browser.get("/ai/hidden").status_code == 200


def test_card_cannot_run_anything(make_model: Any, client: Client) -> None:
    card = TULU_CARD + (
        "\n<script>alert(1)</script><img src=x onerror=alert(1)>\n\n[x](javascript:alert(1))"
        "\n\n<style>body{display:none}</style><form action=//evil><input></form>"
        "\n\n## <svg onload=alert(1)> Chat format\n\n```\n</pre><script>alert(2)</script>\n```\n"
    )
    make_model("ai/tulu", card=card)
    response = client.get("/ai/tulu")
    page = response.content.decode()
    body = page[page.index('id="card"') :]
    for bad in ("<script", "onerror", 'href="javascript:', "<style", "<form", "<svg", "<input"):
        assert bad not in body
    assert "script-src 'self'" in response["Content-Security-Policy"]


def test_card_data_cannot_break_the_page(make_model: Any, client: Client) -> None:
    card = "---\nlicense: '<script>alert(1)</script>'\nlanguage: [{a: b}, en]\nbase_model: {x: y}\n---\n<b>Hi</b>\n"
    make_model("ai/odd", card=card, licences=[])
    page = client.get("/ai/odd").content.decode()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_page_names_licences_with_their_hash(people: Any, client: Client) -> None:
    licence = people.model.licence_versions.get()
    page = text_of(client.get("/ai/tulu"))
    assert f'href="/ai/tulu/licences/{licence.pk}"' in page
    assert licence.sha256 in page
    whole = client.get(f"/ai/tulu/licences/{licence.pk}").content.decode()
    assert "Be good.\n" in whole
    assert client.get("/ai/tulu/licences/999999").status_code == 404
