"""Moves from each of the Hub's lists to every other, by the services that the admin uses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access_requests.access.access import access_of, codes_for
from access_requests.access.list_pages import Wanted, everybody, page_of
from access_requests.access.review_lists import ReviewEntry, listed_entries, person_of, review_entry
from access_requests.enums import AccessCode, Gate, GrantSource, Outcome, Place, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound, RuleError
from access_requests.models import AccessRequest, Decision, Event, Grant, OutgoingMail
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place, grant_to
from access_requests.services.requests.submit import (
    appeal_request,
    save_draft,
    start_request,
    withdraw_request,
)
from tests.conftest import TULU_ANSWERS
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db

P = Place


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Return applicant ada, owner olga, reviewer rita, stranger sam, and a model."""

    class People:
        ada, olga, rita, sam = (
            make_person(name, first_name=name.title()) for name in ("ada", "olga", "rita", "sam")
        )
        model = make_model()

    assign_role(model=People.model, user=People.olga, role="owner")
    assign_role(model=People.model, user=People.rita, role="reviewer")
    return People


def decider(people: Any) -> Any:
    """Return the reviewer, or the owner for someone who never asked: only owners give access without a request."""
    return people.rita if people.model.requests.exists() else people.olga


def put(people: Any, to: Place, *, by: Any = None, words: str = "Because.", **fields: Any) -> ReviewEntry:
    return change_place(
        model=people.model, person=people.ada, to=to, reviewer=by or decider(people), words=words, **fields
    )


def place(people: Any) -> Place | None:
    return review_entry(people.ada, people.model).place


def last_mail() -> OutgoingMail:
    return OutgoingMail.objects.order_by("-pk")[0]


# How someone gets into a list: by a request, or ("unasked") by access given without one.
def stand(people: Any, submit: Any, where: str) -> None:
    how, _, unasked = where.partition(" ")
    if unasked:
        grant_access(model=people.model, email=people.ada.email, days=3)
        if how == "reset":
            revoke_access(model=people.model, user=people.ada, actor=people.olga)
        return
    request = submit(people.ada, people.model)
    outcome = {"accepted": "approved", "expired": "approved"}.get(how, how)
    if outcome != "submitted":
        record_decision(
            request=request, reviewer=people.rita, outcome=outcome, reason_code="other", words="Words."
        )
    if how == "expired":
        now = timezone.now()
        Grant.objects.update(starts_at=now - timedelta(days=9), ends_at=now - timedelta(days=1))


STANDS = {
    "submitted": P.PENDING,
    "changes_requested": P.PENDING,
    "accepted": P.ACCEPTED,
    "accepted unasked": P.ACCEPTED,
    "rejected": P.REJECTED,
    "reset": P.RESET,
    "expired": P.RESET,
    "reset unasked": P.RESET,
}
CODES = {P.PENDING: AccessCode.PENDING, P.ACCEPTED: AccessCode.GRANTED, P.REJECTED: AccessCode.REJECTED}


@pytest.mark.parametrize("to", Place)
@pytest.mark.parametrize("where", STANDS)
def test_anybody_in_a_list_can_be_put_into_each_other_one(
    people: Any, submit: Any, where: str, to: Place
) -> None:
    stand(people, submit, where)
    assert place(people) == STANDS[where]
    before = Event.objects.count(), OutgoingMail.objects.count(), Decision.objects.count()
    if STANDS[where] == to:
        with pytest.raises(NotFound, match=f"ada is {to} for ai/tulu already"):
            put(people, to)
        assert (Event.objects.count(), OutgoingMail.objects.count(), Decision.objects.count()) == before
        return
    assert put(people, to).place == to
    access = access_of(people.ada, people.model)
    if to == P.RESET:
        assert access.code in {AccessCode.RESET, AccessCode.REVOKED}
    else:
        assert access.code == CODES[to]
    assert codes_for(people.ada, [people.model])[people.model.pk] == access.code
    assert access.allowed == (to == P.ACCEPTED)
    assert Grant.objects.filter(revoked_at=None, ends_at__gt=timezone.now()).count() == int(to == P.ACCEPTED)
    assert OutgoingMail.objects.count() == before[1] + 1
    assert last_mail().to == people.ada.email
    assert verify_chain().ok


@pytest.mark.parametrize("where", STANDS)
def test_round_of_all_lists_ends_where_it_began(people: Any, submit: Any, where: str) -> None:
    stand(people, submit, where)
    for to in (
        P.ACCEPTED,
        P.PENDING,
        P.REJECTED,
        P.PENDING,
        P.RESET,
        P.REJECTED,
        P.ACCEPTED,
        P.RESET,
        P.PENDING,
        P.ACCEPTED,
    ):
        if place(people) != to:
            assert put(people, to).place == to
    assert AccessRequest.objects.filter(applicant=people.ada).count() == 1
    assert verify_chain().ok


def test_reopening_revokes_keeps_the_place_in_the_queue_and_says_so(people: Any, submit: Any) -> None:
    stand(people, submit, "accepted")
    asked_at = AccessRequest.objects.get().submitted_at
    put(people, P.PENDING, words="The institute changed.")
    request, grant = AccessRequest.objects.get(), Grant.objects.get()
    assert (request.state, request.closed_at, request.submitted_at) == (
        RequestState.IN_REVIEW,
        None,
        asked_at,
    )
    assert (grant.revoked_by, grant.revoke_reason) == (people.rita, "The institute changed.")
    kinds = [(event.kind, event.actor_name) for event in Event.objects.order_by("pk")]
    assert kinds[-2:] == [("grant.revoked", "rita"), ("request.reopened", "rita")]
    assert Event.objects.get(kind="request.reopened").data == {
        "from": "approved", "to": "in_review", "words": "The institute changed."
    }  # fmt: skip
    assert last_mail().subject == "Your request for ai/tulu is open again"
    assert "revoked your access" in last_mail().text
    assert "The institute changed." in last_mail().text
    record_decision(request=request, reviewer=people.olga, outcome=Outcome.APPROVED)
    assert place(people) == P.ACCEPTED
    assert Grant.objects.count() == 2


def test_reopening_a_rejection_tells_of_no_access(people: Any, submit: Any) -> None:
    stand(people, submit, "rejected")
    put(people, P.PENDING, words="")
    assert "opened your request #" in last_mail().text
    assert "taken back" not in last_mail().text
    assert Decision.objects.latest("pk").outcome == Outcome.REOPENED


def test_reset_tells_the_reason_and_lets_the_person_ask_again(people: Any, submit: Any) -> None:
    stand(people, submit, "submitted")
    put(people, P.RESET, words="The form was changed.")
    request = AccessRequest.objects.get()
    assert request.state == RequestState.RESET
    assert "The form was changed." in last_mail().text
    assert last_mail().subject == "Your request for ai/tulu was closed without a decision"
    access = access_of(people.ada, people.model)
    assert access.sentence == (
        f"A reviewer closed your request #{request.pk} without a decision: ask again at http://127.0.0.1:8000/ai/tulu"
    )
    again = start_request(model=people.model, applicant=people.ada)
    assert again.pk != request.pk
    assert again.answers["f3"] == "Analytical Society"
    assert place(people) == P.RESET
    submit(people.ada, people.model)
    assert place(people) == P.PENDING


def test_reset_of_access_is_a_revocation_with_the_reason(people: Any, submit: Any) -> None:
    stand(people, submit, "accepted")
    put(people, P.RESET, words="The project ended.")
    assert Grant.objects.get().revoke_reason == "The project ended."
    assert last_mail().subject == "Your access to ai/tulu was revoked"
    assert AccessRequest.objects.get().state == RequestState.APPROVED


def test_rejecting_somebody_with_access_is_one_mail_that_says_both(people: Any, submit: Any) -> None:
    stand(people, submit, "accepted")
    put(people, P.REJECTED, words="Shared with others.")
    decision = Decision.objects.latest("pk")
    assert (decision.outcome, decision.reason_code, decision.words) == (
        "rejected",
        "other",
        "Shared with others.",
    )
    assert "Your access has ended" in last_mail().text
    assert last_mail().text.count("Shared with others.") == 1


@pytest.mark.parametrize("words", ["", "  ", "\0"])
def test_rejection_without_words_is_refused(people: Any, submit: Any, words: str) -> None:
    stand(people, submit, "accepted")
    with pytest.raises(Invalid, match="Write a message to the applicant"):
        put(people, P.REJECTED, words=words)
    assert place(people) == P.ACCEPTED


def test_access_without_a_request_gets_a_case_when_it_is_taken_back(people: Any) -> None:
    grant_access(model=people.model, email=people.ada.email, days=3)
    before = review_entry(people.ada, people.model)
    assert before.id == f"grant-{before.grant.pk}"
    put(people, P.PENDING)
    request, after = AccessRequest.objects.get(), review_entry(people.ada, people.model)
    assert (request.state, request.answers, request.first_name) == (RequestState.IN_REVIEW, {}, "Ada")
    assert after.id == str(request.pk)
    assert after.asked_at == before.asked_at
    assert person_of(people.model, before.id) == person_of(people.model, after.id) == people.ada
    assert [entry.asked for entry in listed_entries([before, after])] == [False, False]


def test_open_request_beside_access_stays_when_the_access_is_taken_back(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    grant_access(model=people.model, email=people.ada.email, days=3)
    assert place(people) == P.ACCEPTED
    put(people, P.PENDING)
    request.refresh_from_db()
    assert request.state == RequestState.SUBMITTED
    assert Grant.objects.get().revoked_at is not None


def test_reset_closes_an_open_request_beside_the_access(people: Any, submit: Any) -> None:
    submit(people.ada, people.model)
    grant_access(model=people.model, email=people.ada.email, days=3)
    assert put(people, P.RESET).place == P.RESET
    assert AccessRequest.objects.get().state == RequestState.RESET


def test_draft_gives_way_to_a_reopened_request_and_is_kept(people: Any, submit: Any) -> None:
    stand(people, submit, "rejected")
    draft = start_request(model=people.model, applicant=people.ada)
    save_draft(request=draft, applicant=people.ada, answers={"f5": "Better words."})
    put(people, P.PENDING)
    draft.refresh_from_db()
    assert (draft.state, draft.answers) == (RequestState.WITHDRAWN, {"f5": "Better words."})
    assert Event.objects.get(kind="request.withdrawn").actor == people.rita
    assert access_of(people.ada, people.model).code == AccessCode.PENDING
    put(people, P.REJECTED)
    assert access_of(people.ada, people.model).code == AccessCode.REJECTED
    assert codes_for(people.ada, [people.model]) == {people.model.pk: AccessCode.REJECTED}


def test_draft_does_not_keep_a_reviewer_from_accepting(people: Any, submit: Any) -> None:
    stand(people, submit, "rejected")
    start_request(model=people.model, applicant=people.ada)
    assert put(people, P.ACCEPTED).place == P.ACCEPTED
    assert access_of(people.ada, people.model).allowed


def test_person_who_never_submitted_is_in_no_list(people: Any, submit: Any) -> None:
    assert place(people) is None
    draft = start_request(model=people.model, applicant=people.ada)
    assert place(people) is None
    for to in Place:
        with pytest.raises(NotFound, match="has not asked"):
            put(people, to)
    withdraw_request(request=draft, applicant=people.ada)
    submit(people.ada, people.model)
    withdraw_request(request=AccessRequest.objects.latest("pk"), applicant=people.ada)
    assert place(people) is None
    assert list(everybody(people.model)) == []


def test_withdrawn_request_lets_the_one_before_count(people: Any, submit: Any) -> None:
    stand(people, submit, "rejected")
    again = submit(people.ada, people.model)
    assert place(people) == P.PENDING
    withdraw_request(request=again, applicant=people.ada)
    assert place(people) == P.REJECTED


def test_newer_word_counts_of_grant_and_rejection(people: Any, submit: Any) -> None:
    stand(people, submit, "rejected")
    grant_access(model=people.model, email=people.ada.email, days=3)
    revoke_access(model=people.model, user=people.ada)
    assert (place(people), access_of(people.ada, people.model).code) == (P.RESET, AccessCode.REVOKED)
    put(people, P.REJECTED)
    assert (place(people), access_of(people.ada, people.model).code) == (P.REJECTED, AccessCode.REJECTED)


@pytest.mark.parametrize("to", Place)
def test_nobody_decides_about_themselves_and_no_stranger_decides(people: Any, submit: Any, to: Place) -> None:
    stand(people, submit, "expired" if to != P.RESET else "rejected")
    assign_role(model=people.model, user=people.ada, role="owner")
    with pytest.raises(NotAllowed, match="your own"):
        put(people, to, by=people.ada)
    with pytest.raises(NotAllowed, match="not a reviewer"):
        put(people, to, by=people.sam)


@pytest.mark.parametrize("to", [P.ACCEPTED, P.REJECTED, P.RESET])
def test_appeal_is_heard_by_another_reviewer_here_too(people: Any, submit: Any, to: Place) -> None:
    stand(people, submit, "rejected")
    appeal_request(request=AccessRequest.objects.get(), applicant=people.ada, words="Look again.")
    with pytest.raises(NotAllowed, match="another reviewer must decide the appeal"):
        put(people, to)
    assert place(people) == P.PENDING
    assert put(people, to, by=people.olga).place == to


def test_request_that_was_reopened_after_an_appeal_begins_anew(people: Any, submit: Any) -> None:
    stand(people, submit, "rejected")
    appeal_request(request=AccessRequest.objects.get(), applicant=people.ada, words="Look again.")
    put(people, P.ACCEPTED, by=people.olga)
    put(people, P.PENDING)  # rita's rejection: the appeal was accepted
    request = AccessRequest.objects.get()
    assert (request.appeal, request.appealed_at) == ("", None)
    assert Event.objects.filter(kind="request.reopened").get().data["appeal_before"] == "Look again."
    put(people, P.REJECTED, by=people.olga)
    decision = Decision.objects.order_by("-pk")[0]
    assert not decision.on_appeal
    told = OutgoingMail.objects.filter(to=people.ada.email).order_by("-pk")[0].text
    assert "you can appeal once" in told
    assert "ends the appeal" not in told
    asked = OutgoingMail.objects.filter(to=people.rita.email).count()
    appeal_request(request=AccessRequest.objects.get(), applicant=people.ada, words="And again.")
    assert OutgoingMail.objects.filter(to=people.rita.email).count() == asked + 1
    with pytest.raises(NotAllowed, match="another reviewer must decide the appeal"):
        put(people, P.ACCEPTED, by=people.olga)
    put(people, P.ACCEPTED)
    assert Decision.objects.order_by("-pk")[0].on_appeal
    assert "heard_own_appeal" not in Event.objects.filter(kind="request.approved").latest("pk").data
    assert verify_chain().ok


def test_decision_through_the_admin_does_not_override_one(people: Any, submit: Any) -> None:
    """A late decision cannot do what the table of moves allows as a change of mind."""
    stand(people, submit, "rejected")
    request = AccessRequest.objects.get()
    for outcome in (Outcome.APPROVED, Outcome.RESET, Outcome.CHANGES_REQUESTED):
        with pytest.raises(Conflict, match="was already decided: rejected by rita"):
            record_decision(request=request, reviewer=people.olga, outcome=outcome, words="Words.")


def test_reset_is_one_of_the_decisions_about_a_waiting_request(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    decision = record_decision(request=request, reviewer=people.rita, outcome=Outcome.RESET)
    assert (decision.words, place(people)) == ("", P.RESET)
    with pytest.raises(Conflict, match="was already decided: closed without decision by rita"):
        record_decision(request=request, reviewer=people.olga, outcome=Outcome.APPROVED)
    with pytest.raises(Invalid):
        record_decision(request=request, reviewer=people.olga, outcome=Outcome.REOPENED)


def test_model_without_gate_takes_no_decision(people: Any, submit: Any) -> None:
    stand(people, submit, "submitted")
    people.model.gate = Gate.NONE
    people.model.save()
    for call in (
        lambda: put(people, P.ACCEPTED),
        lambda: grant_to(model=people.model, person=people.ada, reviewer=people.rita),
    ):
        with pytest.raises(Invalid) as refused:
            call()
        assert (refused.value.code, refused.value.status) == ("RepoNotGated", 400)


# -- access without a request ----------------------------------------------------------------------------


def give(people: Any, *, to: Any = None, by: Any = None) -> ReviewEntry:
    return grant_to(model=people.model, person=to or people.ada, reviewer=by or decider(people))


def test_access_is_given_to_somebody_who_never_asked(people: Any) -> None:
    entry = give(people)
    grant = Grant.objects.get()
    assert (entry.place, grant.source, grant.granted_by, grant.request) == (
        P.ACCEPTED, GrantSource.OPERATOR, people.olga, None
    )  # fmt: skip
    assert (grant.ends_at - grant.starts_at).days == people.model.grant_days
    assert last_mail().subject == "You now have access to ai/tulu"
    with pytest.raises(Invalid) as refused:
        give(people, by=people.olga)
    assert refused.value.field == "user"


@pytest.mark.parametrize("where", [where for where, at in STANDS.items() if at != P.ACCEPTED])
def test_giving_access_approves_what_was_asked(people: Any, submit: Any, where: str) -> None:
    stand(people, submit, where)
    before = review_entry(people.ada, people.model)
    after = give(people)
    assert after.place == P.ACCEPTED
    if before.request is not None:
        assert (after.id, after.asked_at) == (before.id, before.asked_at)
        assert Decision.objects.latest("pk").outcome == Outcome.APPROVED


def test_owner_may_give_themselves_access_and_a_reviewer_may_not(people: Any, submit: Any) -> None:
    with pytest.raises(NotAllowed, match="your own"):
        give(people, to=people.rita, by=people.rita)
    assert give(people, to=people.olga, by=people.olga).place == P.ACCEPTED
    request = submit(people.sam, people.model)
    assign_role(model=people.model, user=people.sam, role="owner")
    with pytest.raises(NotAllowed, match="your own request"):
        give(people, to=people.sam, by=people.sam)
    request.refresh_from_db()
    assert request.is_open


def test_disabled_account_is_given_nothing(people: Any) -> None:
    people.ada.is_active = False
    people.ada.save()
    with pytest.raises(Conflict, match="disabled"):
        give(people)


# -- two at once -----------------------------------------------------------------------------------------


def test_who_looked_before_another_decided_comes_too_late(people: Any, submit: Any) -> None:
    submit(people.ada, people.model)
    seen = review_entry(people.ada, people.model)
    put(people, P.ACCEPTED, by=people.olga, seen=seen)
    with pytest.raises(Conflict, match="was already decided: approved by olga"):
        put(people, P.REJECTED, seen=seen)
    with pytest.raises(NotFound, match="approved by olga"):
        put(people, P.ACCEPTED, seen=seen)


def test_question_to_the_applicant_counts_as_a_decision_too(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    seen = review_entry(people.ada, people.model)
    record_decision(request=request, reviewer=people.olga, outcome="changes_requested", words="Which data?")
    with pytest.raises(Conflict, match="changes requested by olga"):
        put(people, P.ACCEPTED, seen=seen)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["submitted", "accepted"])
def test_of_six_at_once_in_admin_and_api_one_wins(
    where: str, make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    class People:
        ada, rita, model = make_person("ada"), make_person("rita"), make_model()

    people = People
    reviewers = [make_person(f"reviewer{n}") for n in range(6)]
    for reviewer in [*reviewers, people.rita]:
        assign_role(model=people.model, user=reviewer, role="reviewer")
    stand(people, submit, where)
    request, seen = AccessRequest.objects.get(), review_entry(people.ada, people.model)
    decided, mailed = Decision.objects.count(), OutgoingMail.objects.filter(to=people.ada.email).count()
    wanted = {
        "submitted": [P.ACCEPTED, P.REJECTED, P.RESET, "approved", "rejected", "reset"],
        "accepted": [P.PENDING, P.REJECTED, P.RESET, P.PENDING, P.REJECTED, P.RESET],
    }[where]

    def decide(number: int) -> str:
        to = wanted[number]
        try:
            if isinstance(to, Place):
                put(people, to, by=reviewers[number], seen=seen)
            else:
                record_decision(
                    request=request,
                    reviewer=reviewers[number],
                    outcome=to,
                    reason_code="other",
                    words="Words.",
                )
        except RuleError as error:
            return error.sentence
        return "won"

    results = all_at_once(6, decide)
    assert results.count("won") == 1, results
    assert place(people) != seen.place
    assert OutgoingMail.objects.filter(to=people.ada.email).count() == mailed + 1
    assert Decision.objects.count() <= decided + 1
    assert verify_chain().ok


@pytest.mark.django_db(transaction=True)
def test_of_six_who_give_access_at_once_one_makes_a_grant(
    make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    model, ada = make_model(), make_person("ada")
    reviewers = [make_person(f"reviewer{n}") for n in range(6)]
    for reviewer in reviewers:
        assign_role(model=model, user=reviewer, role="owner")

    def give_once(number: int) -> bool:
        try:
            grant_to(model=model, person=ada, reviewer=reviewers[number])
        except RuleError:
            return False
        return True

    assert sorted(all_at_once(6, give_once)) == [False] * 5 + [True]
    assert Grant.objects.count() == 1


# -- lists -------------------------------------------------------------------------------------------------


def test_list_holds_each_person_once_in_the_order_of_asking(
    people: Any, make_person: Callable[..., Any], submit: Any, django_assert_num_queries: Any
) -> None:
    for name in ("Zoe", "bob", "Bea"):
        submit(make_person(name), people.model, answers=TULU_ANSWERS)
    stand(people, submit, "rejected")
    submit(people.ada, people.model)
    grant_access(model=people.model, email=people.sam.email, days=3)
    with django_assert_num_queries(6):
        waiting = listed_entries(page_of(people.model, P.PENDING, most=10))
    assert [entry.person.username for entry in waiting] == ["Zoe", "bob", "Bea", "ada"]
    whole = listed_entries(everybody(people.model))
    assert [entry.person.username for entry in whole] == ["Zoe", "bob", "Bea", "ada", "sam"]

    def found(**wanted: Any) -> list[str]:
        page = listed_entries(page_of(people.model, P.PENDING, Wanted(**wanted), most=10))
        return [entry.person.username for entry in page]

    assert found(name="B") == ["bob", "Bea"]
    assert found(name="ea") == []
    third = waiting[2].entry.asked_at
    assert found(after=third) == ["ada"]
    assert found(before=third) == ["Zoe", "bob"]


def test_unknown_id_names_nobody(people: Any, submit: Any) -> None:
    submit(people.ada, people.model)
    for name in ("", "0", "abc", "grant-", "grant-0", "grant-x", "-1", "１", "9" * 30, "1\0"):
        assert person_of(people.model, name) is None, name


def test_id_of_a_replaced_entry_names_nobody(
    people: Any, submit: Any, make_model: Callable[..., Any]
) -> None:
    stand(people, submit, "rejected")
    first = review_entry(people.ada, people.model).id
    assert person_of(people.model, first) == people.ada
    assert person_of(make_model("ai/other"), first) is None
    submit(people.ada, people.model)
    assert person_of(people.model, first) is None
