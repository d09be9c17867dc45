"""Every email about requests and grants has a subject and full addresses, and quotes people as they wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from access_requests.enums import Outcome, Place, ReasonCode
from access_requests.models import OutgoingMail
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.submit import appeal_request
from tests.conftest import TULU_ANSWERS

pytestmark = pytest.mark.django_db

PAGE = "http://127.0.0.1:8000/ai/tulu"


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    class People:
        ada, rita, olga = make_person("ada", first_name="Ada"), make_person("rita"), make_person("olga")
        model = make_model()

    for person in (People.rita, People.olga):
        assign_role(model=People.model, user=person, role="reviewer")
    return People


def mail(key: str) -> OutgoingMail:
    found = OutgoingMail.objects.filter(key__startswith=f"{key}:").order_by("-pk")[0]
    for sign in ("&lt;", "&#x27;", "&amp;", "{{", "{%", "Subject:"):
        assert sign not in found.subject + found.text
    assert "\n\n\n" not in found.text
    assert "http://127.0.0.1:8000" in found.text
    return found


def test_submission_tells_applicant_and_reviewers(people: Any, submit: Any) -> None:
    answers = {**TULU_ANSWERS, "f3": "O'Brien & <Sons>", "f5": 'Use & "study"'}
    request = submit(people.ada, people.model, answers=answers)
    received, new = mail("received"), mail("new")
    assert received.subject == "Your request for ai/tulu is in"
    assert PAGE in received.text
    assert new.subject == f"Request #{request.pk} for ai/tulu"
    assert "O'Brien & <Sons>" in new.text
    assert 'Use & "study"' in new.text
    assert f"http://127.0.0.1:8000/admin/access_requests/accessrequest/{request.pk}/change/" in new.text


@pytest.mark.parametrize(
    ("outcome", "subject", "address"),
    [
        (Outcome.APPROVED, "Your request for ai/tulu is approved", f"{PAGE}/access"),
        (Outcome.REJECTED, "Your request for ai/tulu was rejected", PAGE),
        (Outcome.CHANGES_REQUESTED, "Please change your request for ai/tulu", f"{PAGE}/request"),
    ],
)
def test_decisions_reach_the_applicant(
    people: Any, submit: Any, outcome: str, subject: str, address: str
) -> None:
    request = submit(people.ada, people.model)
    code = "" if outcome == Outcome.APPROVED else ReasonCode.USE_UNCLEAR
    record_decision(
        request=request, reviewer=people.rita, outcome=outcome, reason_code=code, words="It's <this>."
    )
    told = mail("decision")
    assert (told.subject, told.to) == (subject, people.ada.email)
    assert "It's <this>." in told.text
    assert address in told.text.split("\n")
    assert "gth_" not in told.text


def test_appeal_reaches_the_reviewers(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    record_decision(
        request=request, reviewer=people.rita, outcome="rejected", reason_code="other", words="No."
    )
    appeal_request(request=request, applicant=people.ada, words="Look again.")
    told = mail("appealed")
    assert told.subject == f"Appeal #{request.pk} for ai/tulu"
    assert "Look again." in told.text


@pytest.mark.parametrize(
    ("begins", "to", "subject", "said", "address"),
    [
        (
            "submitted",
            Place.RESET,
            "Your request for ai/tulu was closed without a decision",
            "you can ask again",
            f"{PAGE}/request",
        ),
        ("rejected", Place.PENDING, "Your request for ai/tulu is open again", "waiting for a decision", PAGE),
        ("approved", Place.PENDING, "Your request for ai/tulu is open again", "revoked your access", PAGE),
        ("approved", Place.REJECTED, "Your request for ai/tulu was rejected", "Your access has ended", PAGE),
    ],
)
def test_decision_taken_back_reaches_the_applicant(
    people: Any, submit: Any, begins: str, to: Place, subject: str, said: str, address: str
) -> None:
    request = submit(people.ada, people.model)
    if begins != "submitted":
        record_decision(
            request=request, reviewer=people.rita, outcome=begins, reason_code="other", words="First."
        )
    change_place(model=people.model, person=people.ada, to=to, reviewer=people.olga, words="It's <this>.")
    told = mail("decision")
    assert (told.subject, told.to) == (subject, people.ada.email)
    assert "It's <this>." in told.text
    assert "First." not in told.text
    assert said in told.text
    assert address in told.text.split("\n")


def test_operators_grant_invitation_and_revocation(people: Any) -> None:
    grant_access(model=people.model, email=people.ada.email, days=3)
    assert f"{PAGE}/access" in mail("granted").text
    revoke_access(model=people.model, user=people.ada, reason="Shared.")
    assert "Shared." in mail("revoked").text
    made = grant_access(model=people.model, email="new@example.org", days=3)
    invitation = mail("invitation")
    assert made.new_account
    assert "new@example.org" in invitation.text
    assert "/accounts/password/reset/key/" in invitation.text
