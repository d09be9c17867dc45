"""Twenty reviewers and two hundred applicants at once: no double decision, and none about what was not read.

Slow: `./dev.py test -m slow tests/access_requests/services/requests/test_many_at_once.py`.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from access_requests.access.access import live_grant, open_request
from access_requests.enums import WAITING_STATES, Outcome, RequestState
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, Decision, Event, GatedModel, Grant, Submission, Vote
from access_requests.services.catalogue.edit import change_settings
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.verify import verify_log
from access_requests.services.requests.claims import claim_request, hold_request
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.messages import send_message, write_to_reviewers
from access_requests.services.requests.submissions import NewerSubmission, newest_number
from access_requests.services.requests.submit import (
    appeal_request,
    start_request,
    submit_request,
    withdraw_request,
)
from tests.conftest import TULU_ANSWERS
from tests.threads import all_at_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.django_db(transaction=True)]
APPLICANTS, REVIEWERS = 200, 20
WORKERS = 40  # threads that play the applicants, five each in turn
SECONDS = 120  # that everyone works
OUTCOMES = (Outcome.APPROVED, Outcome.APPROVED, Outcome.REJECTED, Outcome.CHANGES_REQUESTED, Outcome.RESET)


class Run:
    """The people and models, and what the reviewers did: (decision or vote, number of the submission that was read)."""

    def __init__(self, make_person: Callable[..., Any], make_model: Callable[..., Any]) -> None:
        self.models: list[GatedModel] = [make_model("ai/one"), make_model("ai/two")]
        change_settings(model=self.models[1], gate="manual", grant_days=30, listed=True)
        self.reviewers = [make_person(f"rev{n}") for n in range(REVIEWERS)]
        for model in self.models:
            for reviewer in self.reviewers:
                assign_role(model=model, user=reviewer, role="reviewer")
        change_settings(model=self.models[1], gate="manual", grant_days=30, listed=True, approvals=2)
        self.applicants = [make_person(f"app{n}") for n in range(APPLICANTS)]
        self.shown = {
            model.pk: list(model.licence_versions.values_list("pk", flat=True)) for model in self.models
        }
        self.done: list[tuple[Decision | Vote, int]] = []
        self.counts: Counter[str] = Counter()
        self.until = 0.0

    def work(self, number: int) -> None:
        """Play one reviewer, or some of the applicants, until the time is over."""
        dice = random.Random(number)
        while time.monotonic() < self.until:
            try:
                if number < REVIEWERS:
                    self.review(self.reviewers[number], dice)
                else:
                    self.apply(dice.choice(self.applicants[number - REVIEWERS :: WORKERS]), dice)
            except NewerSubmission:
                self.counts["refused: newer submission"] += 1
            except RuleError as error:
                self.counts[f"refused: {type(error).__name__}"] += 1
            finally:
                connection.close()  # back to the pool, which all share like requests of a process do

    def apply(self, person: Any, dice: random.Random) -> None:
        model = dice.choice(self.models)
        request = open_request(person, model)
        last = model.requests.filter(applicant=person).order_by("-pk").first()
        if (
            request is None
            and last is not None
            and last.state == RequestState.REJECTED
            and dice.random() < 0.5
        ):
            appeal_request(request=last, applicant=person, words="Please read it again.")
            self.counts["appeal"] += 1
            return
        if request is not None and dice.random() < 0.1:
            withdraw_request(request=request, applicant=person)
            self.counts["withdrawn"] += 1
            return
        if request is not None and dice.random() < 0.1:
            write_to_reviewers(request=request, applicant=person, words="How long will it take?")
            self.counts["message"] += 1
            return
        if request is None and live_grant(person, model):
            return
        answers = {**TULU_ANSWERS, "f5": f"Use number {dice.randrange(10**9)}."}
        submit_request(
            request=request or start_request(model=model, applicant=person),
            applicant=person,
            answers=answers,
            licences_shown=self.shown[model.pk],
        )
        self.counts["submission"] += 1

    def review(self, reviewer: Any, dice: random.Random) -> None:
        waiting = AccessRequest.objects.filter(state__in=WAITING_STATES).order_by("?")
        request = waiting.select_related("model", "applicant").first()
        if request is None:
            time.sleep(0.01)
            return
        if dice.random() < 0.2:
            claim_request(request=request, reviewer=reviewer, take_over=dice.random() < 0.5)
            self.counts["claim"] += 1
        if dice.random() < 0.1:
            hold_request(request=request, reviewer=reviewer, reason="We ask the institute.")
            self.counts["hold"] += 1
        if dice.random() < 0.1:
            send_message(request=request, reviewer=reviewer, words="Which models?")
            self.counts["message"] += 1
        number = newest_number(request)
        connection.close()
        time.sleep(dice.random() / 2)  # the reviewer reads
        outcome = dice.choice(OUTCOMES)
        made = record_decision(
            request=request,
            reviewer=reviewer,
            outcome=outcome,
            reason_code="other" if outcome == Outcome.REJECTED else "",
            words="Because.",
            seen=number,
        )
        self.done.append((made, number))
        self.counts["vote" if isinstance(made, Vote) else f"decision: {outcome}"] += 1


@pytest.fixture
def run(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Run:
    return Run(make_person, make_model)


def wrong_in_history(request: AccessRequest, events: Iterable[Event]) -> list[str]:
    """Return what is wrong in the order of a request's events: a decision while it was closed, or about an old submission."""
    wrong, newest, is_open = [], 0, False
    for event in events:
        number = event.facts.get("submission")
        if event.kind in {"request.submitted", "request.changed"}:
            if number != newest + 1:
                wrong.append(f"#{request.pk}: submission {number} after {newest}")
            newest, is_open = number, True
        elif event.kind == "request.appealed":
            is_open = True
        elif event.kind == "request.withdrawn":
            is_open = False
        elif event.kind in {
            "request.approved",
            "request.rejected",
            "request.changes_requested",
            "request.reset",
        }:
            if not is_open:
                wrong.append(f"#{request.pk}: {event.kind} while it was closed")
            if number != newest:
                wrong.append(f"#{request.pk}: {event.kind} about submission {number} of {newest}")
            is_open = False
        elif event.kind == "request.voted" and number != newest:
            wrong.append(f"#{request.pk}: vote about submission {number} of {newest}")
    return wrong


def test_twenty_reviewers_and_two_hundred_applicants(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.until = time.monotonic() + SECONDS
    all_at_once(REVIEWERS + WORKERS, run.work)
    with capsys.disabled():
        sys.stdout.write(f"\n{dict(sorted(run.counts.items()))}\n")

    assert run.counts["refused: newer submission"] > 0
    assert all(run.counts[f"decision: {outcome}"] > 0 for outcome in OUTCOMES)
    # What was decided is what the reviewer had read, and the log agrees.
    for made, read in run.done:
        assert made.submission is not None
        assert made.submission.number == read
    wrong: list[str] = []
    for request in AccessRequest.objects.order_by("pk"):
        events = request.events.filter(link__isnull=False).select_related("link").order_by("link__number")
        wrong += wrong_in_history(request, events)
    assert wrong == []
    # Two people approved each approved request of the second model, about the submission that was decided.
    approved = Decision.objects.filter(outcome=Outcome.APPROVED, request__model=run.models[1])
    assert approved.exists()
    for decision in approved:
        voters = Vote.objects.filter(request=decision.request, submission=decision.submission)
        assert len(set(voters.values_list("reviewer", flat=True))) >= 2
    now = timezone.now()
    for model in run.models:
        holders = Counter(
            model.grants.filter(revoked_at=None, ends_at__gt=now).values_list("user", flat=True)
        )
        assert not [person for person, count in holders.items() if count > 1]
        granted = set(model.grants.values_list("request", flat=True))
        assert granted == set(model.requests.filter(state=RequestState.APPROVED).values_list("pk", flat=True))
    assert verify_log().problems == []


def test_the_database_refuses_what_services_would_not_do(run: Run, submit: Any) -> None:
    model, person, reviewer = run.models[1], run.applicants[0], run.reviewers[0]
    request = submit(person, model)
    record_decision(request=request, reviewer=reviewer, outcome="approved", seen=1)
    first = Submission.objects.get(request=request)
    other = submit(run.applicants[1], model)
    copy = {"model": model, "form": request.form, "applicant": person}
    now = timezone.now()
    for change in (
        lambda: AccessRequest.objects.create(**copy),
        lambda: AccessRequest.objects.filter(pk=other.pk).update(state="approved"),
        lambda: AccessRequest.objects.filter(pk=other.pk).update(closed_at=now),
        lambda: AccessRequest.objects.filter(pk=other.pk).update(state="appealed"),
        lambda: AccessRequest.objects.filter(pk=other.pk).update(assignee=reviewer),
        lambda: AccessRequest.objects.filter(pk=other.pk).update(held_at=now, held_by=reviewer),
        lambda: Vote.objects.create(request=request, submission=first, reviewer=reviewer),
        lambda: Submission.objects.create(
            request=request, number=1, form=request.form, event=other.events.first(), at=now
        ),
        lambda: Submission.objects.create(
            request=request, number=0, form=request.form, event=other.events.first(), at=now
        ),
        lambda: Submission.objects.create(
            request=request, number=2, form=request.form, event=first.event, at=now
        ),
        lambda: Decision.objects.create(request=other, reviewer=reviewer, outcome="rejected", words=""),
        lambda: [
            Grant.objects.create(
                model=model,
                user=person,
                source="review",
                starts_at=now,
                ends_at=now + (now - request.created_at),
            )
            for _ in range(2)
        ],
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
