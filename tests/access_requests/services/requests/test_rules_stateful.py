"""The services for requests against a small model of the rules, with random calls in random order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from access_requests.access.access import live_grant
from access_requests.access.review_lists import review_entry
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, Decision
from access_requests.services.catalogue.edit import change_settings
from access_requests.services.catalogue.families import set_family
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.event_log.verify import submission_problems
from access_requests.services.grants import revoke_access
from access_requests.services.requests import claims, submit
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.families import decide_together, requests_with, submit_together
from access_requests.services.requests.move_between_lists import change_place, grant_to
from tests.conftest import TULU_ANSWERS

pytestmark = pytest.mark.django_db

WAITING = {"submitted", "in_review", "appealed"}
CLOSED = {"approved", "rejected", "withdrawn", "reset"}
PLACES = {
    "submitted": "pending", "in_review": "pending", "appealed": "pending", "changes_requested": "pending",
    "rejected": "rejected", "reset": "reset", "approved": "reset",
}  # fmt: skip
ANSWERS = [{**TULU_ANSWERS, "f5": f"Use number {n}."} for n in range(3)]
STAFF = ("olga", "rita", "rolf")  # olga is the owner


@dataclass
class Asked:
    """What the rules say about one request."""

    row: AccessRequest
    state: str = "draft"
    versions: list[dict[str, Any]] = field(default_factory=list)
    draft: dict[str, Any] | None = None
    appealed: bool = False
    rejected_by: str = ""
    assignee: str = ""
    held: bool = False
    votes: set[str] = field(default_factory=set)
    closed: int = 0  # when, as a number that grows; 0 while open

    @property
    def counted(self) -> bool:
        return self.state not in {"draft", "withdrawn"}


class Rules(RuleBasedStateMachine):
    """One applicant, one model; subclasses say who decides and how many must approve."""

    approvals = 1
    staff: tuple[str, ...] = STAFF
    make_person: Callable[..., Any]
    make_model: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.undone = transaction.atomic()
        self.undone.__enter__()
        self.asked: list[Asked] = []
        self.access = False
        self.now = 0
        self.sibling_request: AccessRequest | None = None  # an open one, for the family's other model

    def teardown(self) -> None:
        try:
            assert submission_problems() == []
            assert verify_chain().ok
        finally:
            transaction.set_rollback(True)
            self.undone.__exit__(None, None, None)

    @initialize()
    def people(self) -> None:
        make = type(self).make_person
        self.people_by_name = {name: make(name) for name in ("ada", *STAFF)}
        self.ada, self.model = self.people_by_name["ada"], type(self).make_model()
        for name in self.staff:
            role = "owner" if name == "olga" else "reviewer"
            assign_role(model=self.model, user=self.people_by_name[name], role=role)
        if self.approvals > 1:
            change_settings(
                model=self.model, gate="manual", grant_days=30, listed=True, approvals=self.approvals
            )
        self.shown = list(self.model.licence_versions.values_list("pk", flat=True))
        self.sibling = type(self).make_model("ai/sibling")
        assign_role(model=self.sibling, user=self.people_by_name["rita"], role="reviewer")
        set_family(model=self.model, name="Both", others=[self.sibling])

    # -- what the rules say -----------------------------------------------------------------------------

    def open(self) -> Asked | None:
        return next((one for one in self.asked if one.state not in CLOSED), None)

    def newest_counted(self) -> Asked | None:
        counted = [one for one in self.asked if one.counted]
        return max(counted, key=lambda one: (one.closed == 0, one.closed, one.row.pk), default=None)

    def newest(self) -> Asked | None:
        return max(self.asked, key=lambda one: (one.closed == 0, one.closed, one.row.pk), default=None)

    def place(self) -> str | None:
        if self.access:
            return "accepted"
        newest = self.newest_counted()
        if newest is None:
            return "reset" if self.had_access else None
        return PLACES[newest.state]

    had_access = False

    def may_decide(self, one: Asked, name: str) -> bool:
        if name not in self.staff:
            return False
        on_own_appeal = one.appealed and one.state not in CLOSED and one.rejected_by == name
        return not on_own_appeal or len(self.staff) == 1

    def close(self, one: Asked, state: str) -> None:
        self.now += 1
        one.state, one.closed = state, self.now
        one.votes, one.held = set(), False

    def reopen(self, one: Asked) -> None:
        if (draft := self.open()) is not None:
            self.close(draft, "withdrawn")
        one.state, one.closed, one.appealed, one.votes = "in_review", 0, False, set()

    def decided(self, one: Asked, outcome: str, name: str) -> None:
        if one.closed:
            one.appealed = False
        if outcome == "changes_requested":
            one.state, one.votes, one.held = outcome, set(), False
            return
        if outcome == "rejected" and not one.appealed:
            one.rejected_by = name
        self.close(one, outcome)
        if outcome == "approved":
            self.access = self.had_access = True

    def approve(self, one: Asked, name: str) -> None:
        if self.approvals == 1:
            self.decided(one, "approved", name)
            return
        if one.closed:
            self.reopen(one)
        if one.state == "submitted":
            one.state = "in_review"
        one.votes.add(name)
        if len(one.votes) == self.approvals:
            self.decided(one, "approved", name)

    def attempt(self, allowed: bool, call: Callable[[], Any]) -> Any:
        """Make the call; the service refuses it exactly if the rules do. Return whether it was allowed."""
        made, refused = None, ""
        try:
            with transaction.atomic():
                made = call()
        except RuleError as error:
            refused = error.sentence
        assert (not refused) == allowed, refused or "accepted, though it is not allowed"
        return made

    # -- the applicant ----------------------------------------------------------------------------------

    @rule()
    def start(self) -> None:
        current, newest = self.open(), self.newest()
        allowed = current is not None or not self.access
        made = self.attempt(allowed, lambda: submit.start_request(model=self.model, applicant=self.ada))
        if not allowed:
            return
        if current is not None:
            assert made == current.row
            return
        corrected = newest.row.pk if newest is not None and newest.state == "rejected" else None
        assert made.predecessor_id == corrected
        self.asked.append(Asked(made))

    @rule(answers=st.sampled_from(ANSWERS))
    def save(self, answers: dict[str, Any]) -> None:
        one = self.newest()
        if one is None:
            return
        allowed = one.state not in CLOSED
        self.attempt(allowed, lambda: submit.save_draft(request=one.row, applicant=self.ada, answers=answers))
        if allowed and one.state != "draft":
            one.draft = answers

    @rule(answers=st.sampled_from(ANSWERS), back=st.sampled_from([None, 0, 0, 1]))
    def submit(self, answers: dict[str, Any], back: int | None) -> None:
        one = self.newest()
        if one is None:
            return
        same = one.state in WAITING and one.versions[-1:] == [answers]
        allowed = one.state not in CLOSED and (same or back in {None, 0})
        seen = None if back is None else len(one.versions) - back
        self.attempt(
            allowed,
            lambda: submit.submit_request(
                request=one.row, applicant=self.ada, answers=answers, licences_shown=self.shown, seen=seen
            ),
        )
        if not allowed:
            return
        one.draft = None
        if same:
            return
        one.versions.append(answers)
        if one.state in WAITING:
            one.votes = set()
        else:
            one.state = "appealed" if one.appealed else "submitted"

    @rule(answers=st.sampled_from(ANSWERS))
    def submit_family(self, answers: dict[str, Any]) -> None:
        one = self.newest()
        if one is None or one.state != "draft":
            return
        made = self.attempt(
            self.sibling_request is None,
            lambda: submit_together(
                request=one.row,
                applicant=self.ada,
                others=[self.sibling],
                answers=answers,
                licences_shown=self.shown,
            ),
        )
        if made is None:
            return
        one.draft, one.state = None, "submitted"
        one.versions.append(answers)
        self.sibling_request = made[1]
        assert [found.pk for found in requests_with(made[0])] == [made[1].pk]

    @rule()
    def withdraw_sibling(self) -> None:
        if self.sibling_request is not None:
            submit.withdraw_request(request=self.sibling_request, applicant=self.ada)
            self.sibling_request = None

    @rule(name=st.sampled_from(STAFF))
    def close_family(self, name: str) -> None:
        one, sibling = self.newest(), self.sibling_request
        if one is None or sibling is None:
            return
        allowed = self.may_decide(one, name) and one.state in WAITING
        found = decide_together(
            requests=[(one.row, None), (sibling, None)], reviewer=self.people_by_name[name], outcome="reset"
        )
        assert [not decided.refusal for decided in found] == [allowed, name == "rita"]
        if allowed:
            self.decided(one, "reset", name)
        if name == "rita":
            self.sibling_request = None

    @rule()
    def withdraw(self) -> None:
        one = self.newest()
        if one is None:
            return
        allowed = one.state not in CLOSED
        self.attempt(allowed, lambda: submit.withdraw_request(request=one.row, applicant=self.ada))
        if allowed:
            self.close(one, "withdrawn")

    @rule()
    def appeal(self) -> None:
        one = self.newest()
        if one is None:
            return
        allowed = one.state == "rejected" and not one.appealed and not self.access
        self.attempt(
            allowed, lambda: submit.appeal_request(request=one.row, applicant=self.ada, words="Look again.")
        )
        if allowed:
            one.state, one.appealed, one.closed, one.assignee = "appealed", True, 0, ""
            one.votes = set()

    # -- reviewers --------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(STAFF), take_over=st.booleans())
    def claim(self, name: str, take_over: bool) -> None:
        one = self.newest()
        if one is None:
            return
        free = one.assignee in {"", name} or take_over
        allowed = self.may_decide(one, name) and one.state in WAITING and free
        who = self.people_by_name[name]
        self.attempt(
            allowed, lambda: claims.claim_request(request=one.row, reviewer=who, take_over=take_over)
        )
        if allowed:
            if one.state == "submitted" and one.assignee != name:
                one.state = "in_review"
            one.assignee = name

    @rule(name=st.sampled_from(STAFF))
    def release(self, name: str) -> None:
        one = self.newest()
        if one is None:
            return
        allowed = self.may_decide(one, name) and one.assignee != ""
        self.attempt(
            allowed,
            lambda: claims.release_claim(request=one.row, reviewer=self.people_by_name[name]),
        )
        if allowed:
            one.assignee = ""

    @rule(name=st.sampled_from(STAFF), begin=st.booleans())
    def hold(self, name: str, begin: bool) -> None:
        one = self.newest()
        if one is None:
            return
        who = self.people_by_name[name]
        if begin:
            allowed = one.state in WAITING | {"changes_requested"} and not one.held
            call = lambda: claims.hold_request(request=one.row, reviewer=who, reason="Waits.")  # noqa: E731
        else:
            allowed = one.held
            call = lambda: claims.end_hold(request=one.row, reviewer=who)  # noqa: E731
        allowed = allowed and self.may_decide(one, name)
        self.attempt(allowed, call)
        if allowed:
            one.held = begin

    @rule(
        name=st.sampled_from(STAFF),
        outcome=st.sampled_from(["approved", "approved", "rejected", "changes_requested", "reset"]),
        back=st.sampled_from([None, 0, 0, 1]),
    )
    def decide(self, name: str, outcome: str, back: int | None) -> None:
        one = self.newest()
        if one is None:
            return
        read = back in {None, 0} or not one.versions
        voted = self.approvals > 1 and outcome == "approved" and name in one.votes
        allowed = self.may_decide(one, name) and one.state in WAITING and read and not voted
        made = self.attempt(
            allowed,
            lambda: record_decision(
                request=one.row,
                reviewer=self.people_by_name[name],
                outcome=outcome,
                reason_code="other",
                words="Words.",
                seen=None if back is None else len(one.versions) - back,
            ),
        )
        if not allowed:
            return
        assert (made.submission.number if made.submission else 0) == len(one.versions)
        if outcome == "approved":
            self.approve(one, name)
        else:
            self.decided(one, outcome, name)

    @rule(name=st.sampled_from(STAFF), to=st.sampled_from(["accepted", "pending", "rejected", "reset"]))
    def move(self, name: str, to: str) -> None:
        one, had = self.newest_counted(), self.access
        allowed = self.may_move(one, name, to)
        self.attempt(
            allowed,
            lambda: change_place(
                model=self.model,
                person=self.ada,
                to=to,
                reviewer=self.people_by_name[name],
                words="" if to == "accepted" else "Words.",
            ),
        )
        if not allowed:
            return
        if to == "accepted":
            self.accepted(one, name)
            return
        self.access = False
        if to == "reset":
            if one is not None and not (had and one.closed):
                self.decided(one, "reset", name)
            return
        if one is None:
            row = AccessRequest.objects.filter(applicant=self.ada, model=self.model).latest("pk")
            one = Asked(row, state="approved", closed=1)
            self.asked.append(one)
        if to == "rejected":
            self.decided(one, "rejected", name)
        elif one.closed:
            self.reopen(one)
        else:
            one.votes = set()

    def may_move(self, one: Asked | None, name: str, to: str) -> bool:
        if name not in self.staff or self.place() in {None, to}:
            return False
        if one is None:  # access was given without a request, and only an owner gives it again
            return to != "accepted" or name == "olga"
        voted = to == "accepted" and self.approvals > 1 and name in one.votes
        return self.may_decide(one, name) and not voted

    def accepted(self, one: Asked | None, name: str) -> None:
        if one is None:
            self.access = self.had_access = True
        else:
            self.approve(one, name)

    @rule(name=st.sampled_from(STAFF))
    def grant(self, name: str) -> None:
        place, one = self.place(), self.newest_counted()
        allowed = name in self.staff and place != "accepted"
        if one is None:
            allowed = allowed and name == "olga"
        else:
            voted = self.approvals > 1 and name in one.votes
            allowed = allowed and self.may_decide(one, name) and not voted
        self.attempt(
            allowed,
            lambda: grant_to(model=self.model, person=self.ada, reviewer=self.people_by_name[name]),
        )
        if allowed:
            self.accepted(one, name)

    @rule()
    def revoke(self) -> None:
        self.attempt(self.access, lambda: revoke_access(model=self.model, user=self.ada))
        self.access = False

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def database_says_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        assert (live_grant(self.ada, self.model) is not None) == self.access
        assert review_entry(self.ada, self.model).place == self.place()
        rows = {row.pk: row for row in AccessRequest.objects.filter(applicant=self.ada, model=self.model)}
        assert rows.keys() == {one.row.pk for one in self.asked}
        for one in self.asked:
            self.compare(one, rows[one.row.pk])

    def compare(self, one: Asked, row: AccessRequest) -> None:
        assert row.state == one.state
        assert (row.assignee.username if row.assignee else "") == one.assignee
        assert (row.held_at is not None, bool(row.hold_reason)) == (one.held, one.held)
        assert {vote.reviewer.username for vote in row.votes.filter(ended_at=None)} == one.votes
        kept = list(row.submissions.select_related("event").order_by("number"))
        assert [submission.number for submission in kept] == list(range(1, len(one.versions) + 1))
        assert [submission.answers for submission in kept] == one.versions
        if one.versions:
            assert row.answers == one.versions[-1]
        assert row.draft == one.draft
        first = row.first_submitted_at
        if one.row.first_submitted_at is None:
            one.row.first_submitted_at = first
        assert first == one.row.first_submitted_at
        if row.state not in CLOSED:
            assert (row.appealed_at is not None) == one.appealed
        about = Decision.objects.filter(request=row, submission__isnull=False)
        assert all(
            decision.submission.request_id == row.pk for decision in about.select_related("submission")
        )


class TwoApprovals(Rules):
    approvals = 2


class OneReviewer(Rules):
    staff = ("olga",)


MACHINES = [Rules, TwoApprovals, OneReviewer]


def run(machine: type[Rules], make_person: Any, make_model: Any, **options: Any) -> None:
    made = type(machine.__name__, (machine,), {})
    made.make_person, made.make_model = staticmethod(make_person), staticmethod(make_model)
    run_state_machine_as_test(
        made,
        settings=settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **options),
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_services_do_what_the_rules_say(machine: type[Rules], make_person: Any, make_model: Any) -> None:
    run(machine, make_person, make_model, max_examples=12, stateful_step_count=25, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_services_do_what_the_rules_say_for_long(
    machine: type[Rules], make_person: Any, make_model: Any
) -> None:
    run(machine, make_person, make_model, max_examples=300, stateful_step_count=50)
