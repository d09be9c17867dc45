"""The queue, and the page on which a request is decided."""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.enums import Outcome, RequestState
from access_requests.models import AccessRequest, Decision, Event
from access_requests.panels import REQUEST_PANELS
from access_requests.services.catalogue.demand_licence import accept_licences
from access_requests.services.catalogue.edit import add_licence, change_settings
from access_requests.services.catalogue.gated_models import LicenceText, update_card
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.submit import (
    appeal_request,
    start_request,
    submit_request,
    withdraw_request,
)
from tests.conftest import TULU_ANSWERS, TULU_CARD

pytestmark = pytest.mark.django_db

QUEUE = "/admin/access_requests/accessrequest/"


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def case(request: AccessRequest) -> str:
    return f"{QUEUE}{request.pk}/change/"


def decide(browser: Client, request: AccessRequest, outcome: str, **fields: str) -> Any:
    """Post a decision like a page that was opened just now, unless `submission` says otherwise."""
    fields.setdefault("submission", str(request.submissions.count()))
    return browser.post(f"{QUEUE}{request.pk}/decide/", {"outcome": outcome, **fields})


def test_only_staff_with_a_second_factor_enter(desk: Any, submit: Any, client: Client) -> None:
    request = submit(desk.ada, desk.model)
    assert client.get(case(request)).status_code == 302
    client.force_login(desk.ada)
    assert client.get(case(request))["Location"].startswith("/admin/login/")
    assert decide(client, request, "approved")["Location"].startswith("/admin/login/")
    desk.rita.authenticator_set.all().delete()
    assert desk.rita_browser.get(QUEUE)["Location"] == "/accounts/2fa/"
    assert AccessRequest.objects.get().state == RequestState.SUBMITTED


def test_reviewer_of_another_model_sees_and_decides_nothing(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    assert "Lovelace" not in page(desk.sam_browser.get(QUEUE))
    assert desk.sam_browser.get(case(request))["Location"] == "/admin/"
    assert decide(desk.sam_browser, request, "approved")["Location"] == "/admin/"
    request.refresh_from_db()
    assert request.state == RequestState.SUBMITTED


def test_queue_has_waiting_ones_first_and_no_drafts(desk: Any, submit: Any, make_person: Any) -> None:
    done = submit(desk.ada, desk.model)
    record_decision(request=done, reviewer=desk.rita, outcome=Outcome.APPROVED)
    late = submit(make_person("late", first_name="Late"), desk.model, answers={**TULU_ANSWERS, "f1": "Late"})
    early = submit(make_person("early"), desk.model, answers={**TULU_ANSWERS, "f1": "Early"})
    AccessRequest.objects.filter(pk=early.pk).update(first_submitted_at=timezone.now() - timedelta(days=3))
    start_request(model=desk.model, applicant=make_person("drafter", first_name="Drafter"))
    shown = page(desk.rita_browser.get(QUEUE))
    places = [
        shown.index(f">{name} Lovelace ({user})<")
        for name, user in (("Early", "early"), ("Late", "late"), ("Ada", "ada"))
    ]
    assert places == sorted(places)
    assert "Drafter" not in shown
    assert '<td class="field-days">3</td>' in shown
    assert late.pk


@pytest.mark.parametrize(
    "query", ["state=waiting", "country=GB", "q=Analytical", "q=instruction", "q=ada@example.org"]
)
def test_queue_filters_and_searches(desk: Any, submit: Any, query: str) -> None:
    submit(desk.ada, desk.model)
    assert "Lovelace (ada)" in page(desk.rita_browser.get(f"{QUEUE}?{query}"))


@pytest.mark.parametrize("query", ["state=rejected", "country=DE", "q=nobody", "state=nonsense"])
def test_queue_filters_leave_out(desk: Any, submit: Any, query: str) -> None:
    submit(desk.ada, desk.model)
    assert "Lovelace (ada)" not in page(desk.rita_browser.get(f"{QUEUE}?{query}"))


def test_queue_queries_do_not_grow(desk: Any, submit: Any, make_person: Any) -> None:
    counts = []
    for number in range(4):
        submit(make_person(f"p{number}"), desk.model)
        desk.rita_browser.get(QUEUE)
        with CaptureQueriesContext(connection) as seen:
            desk.rita_browser.get(QUEUE)
        counts.append(len(seen))
    assert counts[0] == counts[-1]


def test_look_changes_nothing(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    events = Event.objects.count()
    desk.rita_browser.get(case(request))
    desk.root_browser.get(case(request))
    request.refresh_from_db()
    assert (request.state, Event.objects.count()) == (RequestState.SUBMITTED, events)


def test_page_has_everything_to_decide(desk: Any, submit: Any) -> None:
    first = submit(desk.ada, desk.model)
    withdraw_request(request=first, applicant=desk.ada)
    elsewhere = submit(desk.ada, desk.other)
    request = submit(
        desk.ada,
        desk.model,
        answers={**TULU_ANSWERS, "f6": ["10.1000/x1", "arXiv:2306.04751", "none of these"]},
    )
    REQUEST_PANELS.append(lambda subject, http: f"<p>A panel about {subject.pk}</p>")
    try:
        shown = page(desk.rita_browser.get(case(request)))
    finally:
        REQUEST_PANELS.pop()
    licence = desk.model.licence_versions.get()
    for text in (
        "Country (where user is located)",
        "United Kingdom",
        "Study of instruction following.",
        '<a href="https://doi.org/10.1000/x1"',
        '<a href="https://arxiv.org/abs/2306.04751"',
        "none of these",
        "ada@example.org",
        "confirmed",
        "https://orcid.org/0000-0002-1825-0097",
        f"#{first.pk} ai/tulu",
        licence.sha256,
        "request.submitted",
        "192.0.2.1",
        f"A panel about {request.pk}",
    ):
        assert text in shown
    assert f"#{elsewhere.pk} ai/other" not in shown


def test_page_shows_texts_that_were_accepted_later(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    decide(desk.rita_browser, request, "approved")
    text = LicenceText("later.txt", "en", "Be better.\n")
    licence = add_licence(model=desk.model, licence=text, must_accept=True).licence
    assert licence.sha256 not in page(desk.rita_browser.get(case(request)))
    accept_licences(model=desk.model, user=desk.ada, shown=[licence.pk])
    assert licence.sha256 in page(desk.rita_browser.get(case(request)))


def test_approving_makes_the_grant(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    assert decide(desk.rita_browser, request, "approved")["Location"] == case(request)
    request.refresh_from_db()
    assert request.state == RequestState.APPROVED
    assert desk.ada.grants.count() == 1
    assert "is approved" in page(desk.rita_browser.get(case(request)))


def test_decision_about_answers_that_were_changed_is_refused_with_the_difference(
    desk: Any, submit: Any
) -> None:
    request = submit(desk.ada, desk.model)
    opened = page(desk.rita_browser.get(case(request)))
    assert 'name="submission" value="1"' in opened
    assert "Submissions" not in opened
    answers = {**TULU_ANSWERS, "f5": "Something <else> entirely."}
    licences = list(desk.model.licence_versions.values_list("pk", flat=True))
    submit_request(request=request, applicant=desk.ada, answers=answers, licences_shown=licences)
    late = decide(desk.rita_browser, request, "approved", submission="1", words="Welcome.")
    assert late.status_code == 409
    shown = page(late)
    assert "has changed the request since you opened this page" in shown
    assert "Something <else> entirely." in shown
    assert TULU_ANSWERS["f5"] in shown
    assert "Welcome." in shown
    assert 'name="submission" value="2"' in shown
    request.refresh_from_db()
    assert request.state == RequestState.SUBMITTED
    assert "Submission 1" in page(desk.rita_browser.get(case(request)))
    assert decide(desk.rita_browser, request, "approved", submission="2").status_code == 302
    assert request.decisions.get().submission.number == 2


@pytest.mark.parametrize("number", ["", "x", "-1", "99999999999999999999"])
def test_page_without_its_submission_decides_nothing(desk: Any, submit: Any, number: str) -> None:
    request = submit(desk.ada, desk.model)
    assert decide(desk.rita_browser, request, "approved", submission=number).status_code in {409, 422}
    assert not request.decisions.exists()


def test_two_approvals_are_asked_for_and_shown(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    change = {"gate": desk.model.gate, "grant_days": 30, "listed": True}
    change_settings(model=desk.model, approvals=2, **change)
    first = decide(desk.rita_browser, request, "approved", words="From rita.")
    assert first["Location"] == case(request)
    shown = page(desk.olga_browser.get(case(request)))
    assert "needs the approval of two reviewers" in shown
    assert "<strong>rita</strong> approved on" in shown
    assert "is recorded" in page(desk.rita_browser.get(case(request)))
    assert decide(desk.rita_browser, request, "approved").status_code == 409
    assert decide(desk.olga_browser, request, "approved", words="From olga.").status_code == 302
    assert request.decisions.get().words == "From rita.\n\nFrom olga."
    assert desk.ada.grants.count() == 1


def test_rejecting_needs_reason_and_words_and_keeps_what_was_typed(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    refused = decide(desk.rita_browser, request, "rejected", words="Not this <use>.")
    assert refused.status_code == 400
    assert "Choose a reason for the rejection" in page(refused)
    assert "Not this <use>." in page(refused)
    assert decide(desk.rita_browser, request, "rejected", reason_code="other").status_code == 400
    assert decide(desk.rita_browser, request, "rejected", reason_code="other", words="No.").status_code == 302
    assert Decision.objects.get().words == "No."


def test_asking_for_changes_needs_words(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    assert decide(desk.rita_browser, request, "changes_requested").status_code == 400
    assert decide(desk.rita_browser, request, "changes_requested", words="Which data?").status_code == 302
    request.refresh_from_db()
    assert request.state == RequestState.CHANGES_REQUESTED


@pytest.mark.parametrize("outcome", ["", "nonsense", "draft"])
def test_unknown_outcome_is_refused(desk: Any, submit: Any, outcome: str) -> None:
    assert decide(desk.rita_browser, submit(desk.ada, desk.model), outcome).status_code == 400
    assert not Decision.objects.exists()


def test_second_reviewer_is_told_who_decided(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    decide(desk.rita_browser, request, "approved")
    late = decide(desk.olga_browser, request, "rejected", reason_code="other", words="No.")
    assert late.status_code == 409
    assert f"Request #{request.pk} was already decided: approved by rita on" in page(late)
    assert Decision.objects.count() == 1


def test_nobody_decides_their_own_request(desk: Any, submit: Any) -> None:
    request = submit(desk.rita, desk.model)
    shown = page(desk.rita_browser.get(case(request)))
    assert "You cannot decide your own request" in shown
    assert 'value="approved"' not in shown
    request.refresh_from_db()
    assert request.state == RequestState.SUBMITTED
    assert decide(desk.rita_browser, request, "approved").status_code == 403


def test_appeal_is_for_another_reviewer(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    record_decision(request=request, reviewer=desk.rita, outcome="rejected", reason_code="other", words="No.")
    appeal_request(request=request, applicant=desk.ada, words="Look <b>again</b>.")
    first = page(desk.rita_browser.get(case(request)))
    assert "another reviewer must decide the appeal" in first
    assert b"Look &lt;b&gt;again&lt;/b&gt;." in desk.olga_browser.get(case(request)).content
    assert decide(desk.olga_browser, request, "approved").status_code == 302


def test_answers_stay_readable_when_the_card_changes(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    update_card(model=desk.model, card=TULU_CARD.replace("Institution", "Employer"))
    shown = page(desk.rita_browser.get(case(request)))
    assert "Institution" in shown
    assert "Employer" not in shown


def test_labels_and_answers_are_inert(desk: Any, submit: Any) -> None:
    bad = "<script>alert(1)</script>"
    update_card(model=desk.model, card=TULU_CARD.replace("Institution: text", f"'{bad}': text"))
    answers = {
        **TULU_ANSWERS,
        "f1": bad,
        "f3": bad,
        "f5": bad,
        "f6": ["javascript:alert(1)", f"https://x.org/{bad}"],
    }
    desk.model.refresh_from_db()
    request = submit(desk.ada, desk.model, answers=answers)
    for address in (case(request), QUEUE):
        body = desk.rita_browser.get(address).content.decode()
        assert "<script>alert" not in body
        assert 'href="javascript' not in body


def test_nothing_is_added_changed_or_deleted_by_hand(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    assert desk.root_browser.get(f"{QUEUE}add/").status_code == 403
    assert desk.root_browser.get(f"{QUEUE}{request.pk}/delete/").status_code == 403
    desk.root_browser.post(case(request), {"state": "approved"})
    desk.root_browser.post(
        QUEUE, {"action": "delete_selected", "_selected_action": request.pk, "post": "yes"}
    )
    assert AccessRequest.objects.get(pk=request.pk).state == RequestState.SUBMITTED
    assert desk.root_browser.get(f"{QUEUE}{request.pk}/decide/").status_code == 405
    assert desk.root_browser.get(f"{QUEUE}999999/change/")["Location"] == "/admin/"
    assert desk.root_browser.get(f"{QUEUE}nonsense/change/")["Location"] == "/admin/"
