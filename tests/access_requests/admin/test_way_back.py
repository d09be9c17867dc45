"""Taking back a decision on the request's page."""

from __future__ import annotations

from typing import Any

import pytest

from access_requests.enums import Outcome, Place, RequestState
from access_requests.models import AccessRequest, Grant, OutgoingMail
from access_requests.services.catalogue.gated_models import update_card
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.submit import withdraw_request
from tests.access_requests.admin.test_requests import case, decide, page
from tests.conftest import TULU_CARD

pytestmark = pytest.mark.django_db

REOPEN, RESET = 'name="to" value="pending"', 'name="to" value="reset"'


def decided(desk: Any, submit: Any, outcome: str) -> AccessRequest:
    request = submit(desk.ada, desk.model)
    record_decision(request=request, reviewer=desk.rita, outcome=outcome, reason_code="other", words="Words.")
    request.refresh_from_db()
    return request


def back(browser: Any, request: AccessRequest, to: str, **fields: Any) -> Any:
    fields.setdefault("seen", request.decisions.order_by("-pk").values_list("pk", flat=True).first() or 0)
    fields.setdefault("read", request.submissions.count())
    return browser.post(case(request).replace("/change/", "/back/"), {"to": to, **fields})


@pytest.mark.parametrize(
    ("outcome", "offered"),
    [
        (Outcome.APPROVED, (True, True)),
        (Outcome.REJECTED, (True, True)),
        (Outcome.RESET, (True, False)),
        (Outcome.CHANGES_REQUESTED, (False, True)),
    ],
)
def test_page_offers_what_can_be_taken_back(
    desk: Any, submit: Any, outcome: Outcome, offered: tuple[bool, bool]
) -> None:
    shown = desk.olga_browser.get(case(decided(desk, submit, outcome))).content.decode()
    assert (REOPEN in shown, RESET in shown) == offered
    assert ("Both end the person's access" in shown) == (outcome == Outcome.APPROVED)


def test_page_of_a_request_that_counts_no_more_offers_nothing(desk: Any, submit: Any) -> None:
    old = decided(desk, submit, Outcome.REJECTED)
    new = submit(desk.ada, desk.model)
    shown = desk.olga_browser.get(case(old)).content.decode()
    assert (REOPEN in shown, RESET in shown) == (False, False)
    assert back(desk.olga_browser, old, "reset").status_code == 409
    new.refresh_from_db()
    assert new.is_open
    withdraw_request(request=new, applicant=desk.ada)
    assert REOPEN in desk.olga_browser.get(case(old)).content.decode()


def test_reopening_takes_the_access_away_and_tells_the_words(desk: Any, submit: Any) -> None:
    request = decided(desk, submit, Outcome.APPROVED)
    assert back(desk.olga_browser, request, "pending", back_words="A new <look>.")["Location"] == case(
        request
    )
    request.refresh_from_db()
    assert request.state == RequestState.IN_REVIEW
    assert Grant.objects.get().revoked_by == desk.olga
    assert "A new <look>." in OutgoingMail.objects.latest("pk").text
    shown = page(desk.olga_browser.get(case(request)))
    assert "is open again" in shown
    assert "<strong>Reopened</strong> by olga" in shown


def test_resetting_a_waiting_request_is_a_button_beside_the_decisions(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    assert 'name="outcome" value="reset"' in desk.rita_browser.get(case(request)).content.decode()
    assert decide(desk.rita_browser, request, "reset", words="Ask again in May.")["Location"] == case(request)
    request.refresh_from_db()
    assert request.state == RequestState.RESET
    assert "Ask again in May." in OutgoingMail.objects.latest("pk").text
    assert "is closed without decision, and the person can ask again" in page(
        desk.rita_browser.get(case(request))
    )


def test_second_reviewer_on_an_old_page_is_told_who_decided(desk: Any, submit: Any) -> None:
    request = decided(desk, submit, Outcome.REJECTED)
    seen = request.decisions.get().pk
    change_place(model=desk.model, person=desk.ada, to=Place.ACCEPTED, reviewer=desk.olga)
    late = back(desk.rita_browser, request, "reset", seen=seen)
    assert late.status_code == 409
    assert f"Request #{request.pk} was already decided: approved by olga" in page(late)
    assert Grant.objects.get().revoked_at is None


@pytest.mark.parametrize("fields", [{"to": "accepted"}, {"to": ""}, {"to": "reset", "seen": "x"}])
def test_nonsense_is_refused(desk: Any, submit: Any, fields: dict[str, str]) -> None:
    request = decided(desk, submit, Outcome.REJECTED)
    assert back(desk.rita_browser, request, fields.pop("to"), **fields).status_code == 422
    request.refresh_from_db()
    assert request.state == RequestState.REJECTED


def test_nobody_takes_back_what_is_not_theirs(desk: Any, submit: Any) -> None:
    request = decided(desk, submit, Outcome.REJECTED)
    assert back(desk.sam_browser, request, "reset")["Location"] == "/admin/"
    own = submit(desk.olga, desk.model)
    record_decision(request=own, reviewer=desk.rita, outcome=Outcome.APPROVED)
    shown = page(desk.olga_browser.get(case(own)))
    assert "You cannot decide your own request" in shown
    assert back(desk.olga_browser, own, "reset").status_code == 403
    assert desk.rita_browser.get(case(request).replace("/change/", "/back/")).status_code == 405
    request.refresh_from_db()
    assert request.state == RequestState.REJECTED


def test_card_that_changed_since_is_no_hindrance(desk: Any, submit: Any) -> None:
    request = decided(desk, submit, Outcome.REJECTED)
    update_card(model=desk.model, card=TULU_CARD.replace("Institution", "Employer"))
    assert back(desk.rita_browser, request, "pending").status_code == 302
