"""Six reviewers decide at once on a model with weights: one decision, and one of each of its effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from access_requests.enums import Outcome, ReasonCode
from access_requests.errors import RuleError
from access_requests.models import Decision, Grant, OutgoingMail
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.requests.decide import record_decision
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery, Recovery
from tests.conftest import TULU_CARD
from tests.threads import all_at_once
from tests.waiting import wait_until


def decide_all_at_once(request: Any, reviewers: list[Any]) -> list[str]:
    """Let half approve and half reject; return the sentence each got ("" for the winner)."""

    def decide(number: int) -> str:
        against = {"reason_code": ReasonCode.OTHER, "words": "Not this time."} if number % 2 else {}
        outcome = Outcome.REJECTED if number % 2 else Outcome.APPROVED
        try:
            record_decision(request=request, reviewer=reviewers[number], outcome=outcome, **against)
        except RuleError as error:
            return error.sentence
        return ""

    return all_at_once(len(reviewers), decide)


def test_six_reviewers_at_once_make_one_decision_grant_recovery_and_mail(
    add_pair_model: Callable[..., Any],
    make_person: Callable[..., Any],
    submit: Callable[..., Any],
    worker: None,
) -> None:
    model = add_pair_model(card=TULU_CARD, licences=[LicenceText("licence.txt", "en", "Be good.\n")])
    reviewers = [make_person(f"reviewer{number}") for number in range(6)]
    for reviewer in reviewers:
        assign_role(model=model, user=reviewer, role="reviewer")
    approved = 0
    for round_number in range(4):
        ada = make_person(f"ada{round_number}")
        told = decide_all_at_once(submit(ada, model), reviewers)

        decision = Decision.objects.get(request__applicant=ada)
        assert told.count("") == 1
        assert sum("was already decided" in sentence for sentence in told) == 5
        approved += decision.outcome == Outcome.APPROVED
        assert Grant.objects.count() == approved
        assert OutgoingMail.objects.filter(to=ada.email, key__startswith="decision:").count() == 1

    wait_until(lambda: Delivery.objects.filter(state=DeliveryState.READY).count() == approved)
    recovery = Recovery.objects.get()
    assert recovery.attempts == (1 if approved else 0)
    assert recovery.state == (RecoveryState.READY if approved else RecoveryState.PLANNED)
    assert OutgoingMail.objects.filter(key__startswith="ready:").count() == approved
    assert verify_chain().ok
