"""Every version of a request is kept, and a decision is about the one that was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, ProgrammingError, transaction
from django.utils import timezone

from access_requests.access.access import queue_position
from access_requests.access.review_lists import review_entry
from access_requests.enums import Outcome, Place, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import AccessRequest, Decision, Event, Grant, OutgoingMail, Submission, Vote
from access_requests.services.catalogue.edit import change_settings
from access_requests.services.catalogue.gated_models import update_card
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.event_log.verify import submission_problems, verify_log
from access_requests.services.requests.claims import claim_request, end_hold, hold_request, release_claim
from access_requests.services.requests.decide import AlreadyVoted, record_decision
from access_requests.services.requests.move_between_lists import change_place, grant_to
from access_requests.services.requests.submissions import NewerSubmission, differences, newest_submission
from access_requests.services.requests.submit import (
    MOST_SUBMISSIONS,
    appeal_request,
    save_draft,
    start_request,
    submit_request,
    withdraw_request,
)
from tests.conftest import TULU_ANSWERS, TULU_CARD
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db
OTHER = {**TULU_ANSWERS, "f5": "Only to reproduce MMLU."}


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any) -> Any:
    """Return applicant ada, owner olga, reviewers rita and rolf, and a model."""

    class People:
        ada, olga, rita, rolf = (make_person(name) for name in ("ada", "olga", "rita", "rolf"))
        model = make_model()

        @classmethod
        def edit(cls, request: Any, answers: Any = None, **fields: Any) -> Any:
            shown = cls.model.licence_versions.filter(retired_at=None).values_list("pk", flat=True)
            return submit_request(
                request=request,
                applicant=cls.ada,
                answers=OTHER if answers is None else answers,
                licences_shown=list(shown),
                **fields,
            )

        @classmethod
        def decide(cls, request: Any, outcome: str, by: Any = None, **fields: Any) -> Any:
            given = {"reason_code": "other", "words": "Words.", **fields}
            return record_decision(request=request, reviewer=by or cls.rita, outcome=outcome, **given)

        @classmethod
        def needs(cls, approvals: int) -> None:
            change_settings(model=cls.model, gate="manual", grant_days=30, listed=True, approvals=approvals)

    assign_role(model=People.model, user=People.olga, role="owner")
    assign_role(model=People.model, user=People.rita, role="reviewer")
    assign_role(model=People.model, user=People.rolf, role="reviewer")
    return People


def test_submission_holds_what_was_claimed(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    kept = Submission.objects.get()
    assert (kept.request, kept.number, kept.form) == (request, 1, request.form)
    assert kept.at == kept.event.at >= request.submitted_at
    assert kept.answers == TULU_ANSWERS
    assert kept.address == "192.0.2.1"
    accepted = list(request.acceptances.values_list("sha256", flat=True))
    assert kept.licences == accepted != []
    assert kept.event.kind == "request.submitted"
    assert set(kept.event.digests) >= {
        f"answer.{key}" for key, value in TULU_ANSWERS.items() if value is not True
    }
    assert submission_problems() == []


def test_draft_has_no_submission(people: Any) -> None:
    request = start_request(model=people.model, applicant=people.ada)
    assert newest_submission(request) is None


def test_edit_keeps_state_place_and_what_was_submitted_before(
    people: Any, submit: Any, make_person: Callable[..., Any]
) -> None:
    request = submit(people.ada, people.model)
    submit(make_person("bob"), people.model)
    claim_request(request=request, reviewer=people.rita)
    before = AccessRequest.objects.get(pk=request.pk)
    entry = review_entry(people.ada, people.model)
    people.edit(request)
    after = AccessRequest.objects.get(pk=request.pk)
    for name in ("state", "first_submitted_at", "submitted_at", "assignee", "claimed_at"):
        assert getattr(after, name) == getattr(before, name), name
    assert queue_position(after) == 1
    assert review_entry(people.ada, people.model).asked_at == entry.asked_at
    first, second = request.submissions.order_by("number")
    assert (first.answers, second.answers, second.number) == (TULU_ANSWERS, OTHER, 2)
    assert (after.answers, after.intended_use) == (OTHER, OTHER["f5"])
    (change,) = differences(first, second)
    assert (change.field.key, change.old, change.new) == ("f5", TULU_ANSWERS["f5"], OTHER["f5"])
    assert verify_log().ok


def test_same_answers_are_no_new_submission(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    events = Event.objects.count()
    people.edit(request, TULU_ANSWERS)
    assert (request.submissions.count(), Event.objects.count()) == (1, events)


def test_saved_changes_are_not_what_reviewers_read(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    saved = save_draft(request=request, applicant=people.ada, answers={"f5": "Half a sent"})
    assert (saved.draft, saved.answers) == ({"f5": "Half a sent"}, TULU_ANSWERS)
    assert people.edit(request).draft is None
    save_draft(request=request, applicant=people.ada, answers={"f5": "Later."})
    people.edit(request, OTHER)  # what was submitted already
    assert AccessRequest.objects.get().draft is None


def test_invalid_edit_changes_nothing(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    with pytest.raises(Invalid):
        people.edit(request, {**OTHER, "f3": ""})
    with pytest.raises(NotAllowed):
        submit_request(request=request, applicant=people.rita, answers=OTHER)
    assert request.submissions.count() == 1


def test_closed_request_is_not_changed(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    people.decide(request, "rejected")
    with pytest.raises(Conflict, match="was already decided: rejected by rita"):
        people.edit(request)
    with pytest.raises(Conflict):
        save_draft(request=request, applicant=people.ada, answers=OTHER)


def test_differences_follow_a_field_to_another_version_of_the_form(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    first = newest_submission(request)
    people.decide(request, "rejected")
    added = TULU_CARD.replace("extra_gated_fields:\n", "extra_gated_fields:\n  Lab: text\n", 1)
    assert added != TULU_CARD
    update_card(model=people.model, card=added)
    again = start_request(model=people.model, applicant=people.ada)
    assert again.predecessor == request
    moved = {f"f{int(key[1:]) + 1}": answer for key, answer in OTHER.items()} | {"f1": "Engine room"}
    people.edit(again, moved)
    second = newest_submission(again)
    assert first is not None
    assert second is not None
    assert {change.field.label: (change.old, change.new) for change in differences(first, second)} == {
        "Lab": (None, "Engine room"),
        "Intended Use": (TULU_ANSWERS["f5"], OTHER["f5"]),
    }


# -- what was read ---------------------------------------------------------------------------------------


def test_decision_about_an_older_submission_is_refused(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    people.edit(request)
    for outcome in ("approved", "rejected", "changes_requested", "reset"):
        with pytest.raises(NewerSubmission) as refused:
            people.decide(request, outcome, seen=1)
        assert refused.value.read is not None
        assert (refused.value.read.number, refused.value.newest.number) == (1, 2)
    assert not Decision.objects.exists()
    decision = people.decide(request, "approved", seen=2)
    assert decision.submission.number == 2


def test_decision_of_a_caller_that_read_nothing_is_about_the_newest(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    people.edit(request)
    assert people.decide(request, "rejected").submission.number == 2
    assert Event.objects.get(kind="request.rejected").facts["submission"] == 2


def test_tab_that_was_opened_before_is_refused(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    with pytest.raises(Conflict, match="in another tab"):
        people.edit(request, seen=0)
    assert people.edit(request, seen=1).submissions.count() == 2


# -- votes -----------------------------------------------------------------------------------------------


def test_two_people_must_approve(people: Any, submit: Any) -> None:
    people.needs(2)
    request = submit(people.ada, people.model)
    vote = people.decide(request, "approved", words="Fine with me.")
    assert isinstance(vote, Vote)
    request.refresh_from_db()
    assert (request.state, Grant.objects.count()) == (RequestState.IN_REVIEW, 0)
    with pytest.raises(AlreadyVoted, match="Another reviewer must approve it as well"):
        people.decide(request, "approved")
    decision = people.decide(request, "approved", by=people.rolf, words="And with me.")
    assert isinstance(decision, Decision)
    assert decision.words == "Fine with me.\n\nAnd with me."
    assert not Vote.objects.filter(ended_at=None).exists()
    assert verify_log().ok


def test_edit_ends_votes_and_informs_voters_and_assignee_only(people: Any, submit: Any) -> None:
    people.needs(2)
    request = submit(people.ada, people.model)
    people.decide(request, "approved")
    claim_request(request=request, reviewer=people.olga)
    OutgoingMail.objects.all().delete()
    people.edit(request)
    assert not Vote.objects.filter(ended_at=None).exists()
    mails = {mail.to: mail.text for mail in OutgoingMail.objects.all()}
    assert mails.keys() == {people.rita.email, people.olga.email}
    assert "no longer counts" in mails[people.rita.email]
    assert "You have claimed this request" in mails[people.olga.email]
    assert isinstance(people.decide(request, "approved", by=people.rolf), Vote)
    assert isinstance(people.decide(request, "approved"), Decision)


@pytest.mark.parametrize("outcome", ["rejected", "changes_requested", "reset"])
def test_one_decision_against_is_enough_and_ends_votes(people: Any, submit: Any, outcome: str) -> None:
    people.needs(2)
    request = submit(people.ada, people.model)
    people.decide(request, "approved")
    assert isinstance(people.decide(request, outcome, by=people.rolf), Decision)
    assert not Vote.objects.filter(ended_at=None).exists()


def test_reopening_a_request_made_beside_access_ends_votes(people: Any) -> None:
    people.needs(2)
    request = start_request(model=people.model, applicant=people.ada)
    grant_to(model=people.model, person=people.ada, reviewer=people.olga)
    people.edit(request)
    people.decide(request, "approved")
    change_place(model=people.model, person=people.ada, to=Place.PENDING, reviewer=people.rolf)
    assert not Vote.objects.filter(ended_at=None).exists()
    request.refresh_from_db()
    assert (request.is_open, Grant.objects.filter(closed_at=None).count()) == (True, 0)


def test_number_of_submissions_is_bounded(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    for number in range(MOST_SUBMISSIONS - 1):
        people.edit(request, {**OTHER, "f5": f"Use number {number}."})
    with pytest.raises(Conflict, match=f"submitted this request {MOST_SUBMISSIONS} times"):
        people.edit(request, {**OTHER, "f5": "Once more."})
    assert request.submissions.count() == MOST_SUBMISSIONS


def test_two_approvals_need_two_reviewers(
    make_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    model, owner = make_model("ai/alone"), make_person("alone")
    assign_role(model=model, user=owner, role="owner")
    with pytest.raises(Invalid, match="has only one reviewer"):
        change_settings(model=model, gate="manual", grant_days=30, listed=True, approvals=2)


@pytest.mark.django_db(transaction=True)
def test_of_six_votes_at_once_two_make_one_decision(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    model, ada = make_model(), make_person("ada")
    reviewers = [make_person(f"reviewer{n}") for n in range(6)]
    for reviewer in reviewers:
        assign_role(model=model, user=reviewer, role="reviewer")
    change_settings(model=model, gate="manual", grant_days=30, listed=True, approvals=2)
    request = submit(ada, model)

    def vote(number: int) -> str:
        try:
            made = record_decision(request=request, reviewer=reviewers[number], outcome="approved", seen=1)
        except RuleError:
            return "late"
        return type(made).__name__

    assert sorted(all_at_once(6, vote)) == ["Decision", "Vote", *["late"] * 4]
    assert (Grant.objects.count(), Decision.objects.count(), Vote.objects.count()) == (1, 1, 2)


# -- appeals, claims, holds ------------------------------------------------------------------------------


def test_appeal_stays_an_appeal_until_it_is_decided(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    people.decide(request, "rejected")
    appeal_request(request=request, applicant=people.ada, words="Read it again.")
    claim_request(request=request, reviewer=people.rolf)
    request.refresh_from_db()
    assert request.state == RequestState.APPEALED
    with pytest.raises(NotAllowed, match="another reviewer must decide the appeal"):
        people.decide(request, "approved")
    people.edit(request)
    request.refresh_from_db()
    assert (request.state, request.assignee) == (RequestState.APPEALED, people.rolf)
    people.decide(request, "changes_requested", by=people.rolf)
    people.edit(request, TULU_ANSWERS)
    request.refresh_from_db()
    assert (request.state, request.appeal) == (RequestState.APPEALED, "Read it again.")
    decision = people.decide(request, "approved", by=people.rolf)
    assert (decision.on_appeal, decision.submission.number) == (True, 3)
    assert Event.objects.get(kind="request.appealed").data["words"] == "Read it again."


def test_claim_moves_a_submitted_request_to_review(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    claimed = claim_request(request=request, reviewer=people.rita)
    assert (claimed.state, claimed.assignee) == (RequestState.IN_REVIEW, people.rita)
    with pytest.raises(Conflict, match="rita has claimed request"):
        claim_request(request=request, reviewer=people.rolf)
    assert claim_request(request=request, reviewer=people.rolf, take_over=True).assignee == people.rolf
    with pytest.raises(NotAllowed):
        claim_request(request=request, reviewer=people.ada)
    people.decide(request, "approved")  # not only the assignee decides
    with pytest.raises(Conflict, match="was already decided"):
        claim_request(request=request, reviewer=people.rolf)
    kinds = Event.objects.filter(request=request).order_by("pk").values_list("kind", flat=True)
    assert list(kinds)[2:5] == ["request.claimed", "request.opened", "request.claimed"]


def test_claim_is_released_once(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    claim_request(request=request, reviewer=people.rita)
    assert release_claim(request=request, reviewer=people.olga).assignee is None
    with pytest.raises(Conflict, match="Nobody has claimed"):
        release_claim(request=request, reviewer=people.rita)


def test_hold_has_a_reason_and_ends_with_a_decision(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    with pytest.raises(Invalid, match="Say what the request waits for"):
        hold_request(request=request, reviewer=people.rita, reason=" ")
    held = hold_request(request=request, reviewer=people.rita, reason="Legal reads it.")
    assert (held.state, held.hold_reason) == (RequestState.SUBMITTED, "Legal reads it.")
    with pytest.raises(Conflict, match="is already on hold"):
        hold_request(request=request, reviewer=people.rolf, reason="Again.")
    end_hold(request=request, reviewer=people.rolf)
    with pytest.raises(Conflict, match="is not on hold"):
        end_hold(request=request, reviewer=people.rolf)
    hold_request(request=request, reviewer=people.rita, reason="Once more.")
    people.decide(request, "approved")
    request.refresh_from_db()
    assert (request.held_at, request.held_by, request.hold_reason) == (None, None, "")
    with pytest.raises(Conflict):
        hold_request(request=request, reviewer=people.rita, reason="Too late.")


def test_withdrawing_ends_a_hold(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    hold_request(request=request, reviewer=people.rita, reason="Legal reads it.")
    assert withdraw_request(request=request, applicant=people.ada).held_at is None


# -- what the database refuses ---------------------------------------------------------------------------


def test_database_refuses_what_services_do_not_do(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    kept, now = newest_submission(request), timezone.now()
    assert kept is not None
    rows = AccessRequest.objects.filter(pk=request.pk)
    Vote.objects.create(request=request, reviewer=people.rita)
    wrong: list[Callable[[], Any]] = [
        lambda: Vote.objects.create(request=request, reviewer=people.rita),
        lambda: rows.update(held_at=now, held_by=people.rita),
        lambda: rows.update(held_at=now, hold_reason="No one."),
        lambda: rows.update(hold_reason="No date."),
        lambda: rows.update(assignee=people.rita),
        lambda: rows.update(claimed_at=now),
        lambda: rows.update(
            held_at=now, held_by=people.rita, hold_reason="x", state="rejected", closed_at=now
        ),
        lambda: Submission.objects.create(
            request=request, number=1, form=request.form, event=Event.objects.earliest("pk"), at=now
        ),
        lambda: Submission.objects.create(
            request=request, number=0, form=request.form, event=Event.objects.earliest("pk"), at=now
        ),
        lambda: Submission.objects.create(
            request=request, number=2, form=request.form, event=kept.event, at=now
        ),
    ]
    for write in wrong:
        with pytest.raises(IntegrityError), transaction.atomic():
            write()


def test_portal_may_not_change_submissions_and_votes(people: Any, submit: Any) -> None:
    people.needs(2)
    request = submit(people.ada, people.model)
    people.decide(request, "approved")
    for change in (
        lambda: Submission.objects.update(number=7),
        lambda: Submission.objects.all()._raw_delete("default"),
        lambda: Vote.objects.update(reviewer=people.olga),
        lambda: Vote.objects.all()._raw_delete("default"),
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            change()
    Vote.objects.update(ended_at=timezone.now())


# -- verification ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_changed_submissions_are_found_and_erased_answers_accepted(
    people: Any, submit: Any, as_owner: Any
) -> None:
    request = submit(people.ada, people.model)
    people.edit(request)
    assert verify_log().ok
    as_owner.execute("SET session_replication_role = replica")
    table = "access_requests_submission"
    for change, back in (
        (
            f"UPDATE {table} SET number = 9 WHERE number = 2",
            f"UPDATE {table} SET number = 2 WHERE number = 9",
        ),
        (
            f"UPDATE {table} SET at = at - interval '1 day' WHERE number = 1",
            f"UPDATE {table} SET at = at + interval '1 day' WHERE number = 1",
        ),
        (
            "UPDATE access_requests_accessrequest SET institution = institution || 'x'",
            "UPDATE access_requests_accessrequest SET institution = left(institution, -1)",
        ),
        (
            """UPDATE access_requests_accessrequest SET answers = answers || '{"f99": "x"}'""",
            "UPDATE access_requests_accessrequest SET answers = answers - 'f99'",
        ),
        (
            "UPDATE access_requests_accessrequest SET address = '192.0.2.9'",
            "UPDATE access_requests_accessrequest SET address = NULL",
        ),
    ):
        as_owner.execute(change)
        assert submission_problems() != [], change
        as_owner.execute(back)
        assert submission_problems() == [], back
    # An answer of the first submission is changed in the log: the chain's check finds it.
    text = "access_requests_eventtext"
    (pk, kept), _ = as_owner.execute(
        f"SELECT id, text FROM {text} WHERE name = 'answer.f5' ORDER BY id"
    ).fetchall()
    as_owner.execute(f"UPDATE {text} SET text = '\"Other.\"' WHERE id = %s", [pk])
    assert not verify_chain().ok
    as_owner.execute(f"UPDATE {text} SET text = %s WHERE id = %s", [kept, pk])
    # Erased with the function that says so: accepted, in old and newest submissions.
    as_owner.execute("SET session_replication_role = origin")
    wanted = [
        row[0] for row in as_owner.execute(f"SELECT id FROM {text} WHERE name = 'answer.f5'").fetchall()
    ]
    as_owner.execute("SELECT gatehouse_erase_event_texts(%s, %s)", [wanted, people.olga.pk])
    report = verify_log()
    assert (report.problems, report.erased) == ([], 2)
    first = request.submissions.get(number=1)
    assert first.answers["f5"] == "(erased)"
    assert first.erased == {"answer.f5"}
    as_owner.execute("SET session_replication_role = replica")
    as_owner.execute(f"DELETE FROM {table} WHERE number = 2")
    assert submission_problems()[0] == f"Submission 2 of request #{request.pk} was removed."


@pytest.mark.django_db(transaction=True)
def test_spoiled_event_is_reported_and_does_not_stop_the_check(
    people: Any, submit: Any, as_owner: Any
) -> None:
    request = submit(people.ada, people.model)
    as_owner.execute("SET session_replication_role = replica")
    as_owner.execute("UPDATE access_requests_eventtext SET text = '{' WHERE name = 'answer.f5'")
    assert f"Request #{request.pk} has another content than its submission 1" in submission_problems()[0]
    assert not verify_log().ok
    # As if it were from before there were submissions, with a date that is none.
    spoiled = "UPDATE access_requests_event SET kind = 'request.recorded' WHERE kind = 'request.submitted'"
    as_owner.execute(spoiled)
    for facts in ("facts", """facts || '{"at": 7}'""", """facts || '{"at": "noon"}'"""):
        as_owner.execute(f"UPDATE access_requests_event SET facts = {facts} WHERE kind = 'request.recorded'")
        assert submission_problems()[0].endswith("is not what its event says: it was changed.")
        assert not verify_log().ok


def test_outcome_is_checked_before_anything_is_read(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    with pytest.raises(Invalid, match="to close without decision"):
        people.decide(request, Outcome.REOPENED)
