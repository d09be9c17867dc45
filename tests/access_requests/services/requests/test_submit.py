from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from access_requests.access.access import access_of, queue_position
from access_requests.enums import AccessCode, Gate, Outcome, Place, ReasonCode, RequestState
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import Decision, Event, Grant, LicenceAcceptance, LicenceVersion, OutgoingMail
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences, update_card
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import verify_chain
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.submit import (
    appeal_request,
    save_draft,
    start_request,
    submit_request,
    withdraw_request,
)
from tests.conftest import TULU_ANSWERS, TULU_CARD
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Return applicant ada, owner olga, reviewer rita, stranger sam, and a model."""

    class People:
        ada, olga, rita, sam = (make_person(name) for name in ("ada", "olga", "rita", "sam"))
        model = make_model()

    assign_role(model=People.model, user=People.olga, role="owner")
    assign_role(model=People.model, user=People.rita, role="reviewer")
    return People


def reject(request: Any, reviewer: Any, words: str = "The use is not covered.") -> Decision:
    return record_decision(
        request=request,
        reviewer=reviewer,
        outcome=Outcome.REJECTED,
        reason_code=ReasonCode.USE_NOT_PERMITTED,
        words=words,
    )


def test_country_of_the_profile_is_chosen_where_the_form_offers_a_choice(
    make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    card = (
        "---\nextra_gated_fields:\n  Name: text\n"
        "  Country: {type: select, options: [France, {label: United Kingdom, value: uk}]}\n---\n"
    )
    ada = make_person("ada", last_name="Lovelace", country="GB")
    request = start_request(model=make_model(card=card), applicant=ada)
    assert request.answers == {"f1": "Lovelace", "f2": "uk"}
    assert request.country.code == "GB"


def test_request_is_prefilled_from_the_profile_and_from_the_last_one(people: Any, submit: Any) -> None:
    people.ada.first_name, people.ada.country = "Ada", "GB"
    people.ada.save()
    first = start_request(model=people.model, applicant=people.ada)
    assert first.answers == {"f1": "Ada", "f4": "GB"}
    submit(people.ada, people.model)
    withdraw_request(request=first, applicant=people.ada)
    again = start_request(model=people.model, applicant=people.ada)
    assert again.pk != first.pk
    assert again.answers == {k: v for k, v in TULU_ANSWERS.items() if k != "f7" and v != []} | {"f6": []}


def test_starting_twice_gives_the_same_draft(people: Any) -> None:
    assert start_request(model=people.model, applicant=people.ada) == start_request(
        model=people.model, applicant=people.ada
    )


def test_submission_stores_answers_by_meaning_and_the_licence_shown(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    request.refresh_from_db()
    assert request.state == RequestState.SUBMITTED
    assert (request.first_name, request.last_name, request.institution, request.country.code) == (
        "Ada",
        "Lovelace",
        "Analytical Society",
        "GB",
    )
    assert request.intended_use == "Study of instruction following."
    acceptance = LicenceAcceptance.objects.get()
    assert (acceptance.user, acceptance.sha256, acceptance.language) == (
        people.ada,
        LicenceVersion.digest("Be good.\n"),
        "en",
    )
    assert set(OutgoingMail.objects.values_list("to", flat=True)) == {
        p.email for p in (people.ada, people.olga, people.rita)
    }


@pytest.mark.parametrize("missing", ["f3", "f5", "f7"])
def test_incomplete_request_is_not_submitted_and_names_the_field(
    people: Any, submit: Any, missing: str
) -> None:
    with pytest.raises(Invalid) as refused:
        submit(people.ada, people.model, answers={k: v for k, v in TULU_ANSWERS.items() if k != missing})
    assert refused.value.field == missing
    assert not LicenceAcceptance.objects.exists()


def test_draft_keeps_what_was_typed(people: Any) -> None:
    request = start_request(model=people.model, applicant=people.ada)
    save_draft(
        request=request, applicant=people.ada, answers={"f1": "Ada", "f5": "half a sent", "unknown": "x"}
    )
    request.refresh_from_db()
    assert request.answers == {"f1": "Ada", "f5": "half a sent"}
    assert access_of(people.ada, people.model).code == AccessCode.DRAFT


def test_licence_changed_while_reading_is_not_accepted(people: Any) -> None:
    request = start_request(model=people.model, applicant=people.ada)
    shown = list(people.model.licence_versions.values_list("pk", flat=True))
    replace_licences(model=people.model, licences=[LicenceText("licence.txt", "en", "Be better.\n")])
    with pytest.raises(Conflict, match="licence changed"):
        submit_request(request=request, applicant=people.ada, answers=TULU_ANSWERS, licences_shown=shown)
    assert not LicenceAcceptance.objects.exists()


def test_form_changed_while_filling_in_keeps_the_answers_and_asks_again(people: Any) -> None:
    request = start_request(model=people.model, applicant=people.ada)
    update_card(
        model=people.model,
        card=TULU_CARD.replace("Intended Use: text", "Intended Use: text\n  Sponsor: text"),
    )
    shown = list(people.model.licence_versions.values_list("pk", flat=True))
    with pytest.raises(Conflict, match="changed the form"):
        submit_request(request=request, applicant=people.ada, answers=TULU_ANSWERS, licences_shown=shown)
    request.refresh_from_db()
    assert request.state == RequestState.DRAFT


def test_decision_moves_through_in_review(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    record_decision(request=request, reviewer=people.rita, outcome=Outcome.APPROVED)
    kinds = Event.objects.filter(request=request).order_by("pk").values_list("kind", flat=True)
    assert list(kinds)[-3:] == ["request.opened", "request.approved", "grant.created"]


def test_strangers_and_applicants_do_not_decide(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    assign_role(model=people.model, user=people.ada, role="reviewer")
    for person, sentence in ((people.sam, "not a reviewer"), (people.ada, "your own request")):
        with pytest.raises(NotAllowed, match=sentence):
            record_decision(request=request, reviewer=person, outcome=Outcome.APPROVED)
    request.refresh_from_db()
    assert request.state == RequestState.SUBMITTED
    assert not Grant.objects.exists()


def test_approval_makes_a_grant_and_no_secret(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    record_decision(request=request, reviewer=people.rita, outcome=Outcome.APPROVED)
    grant = Grant.objects.get()
    assert (grant.user, grant.granted_by, (grant.ends_at - grant.starts_at).days) == (
        people.ada,
        people.rita,
        365,
    )
    assert grant.tokens.count() == 0
    assert access_of(people.ada, people.model).allowed
    assert OutgoingMail.objects.filter(to=people.ada.email, key__startswith="decision:").count() == 1
    with pytest.raises(Conflict, match="already"):
        start_request(model=people.model, applicant=people.ada)


def test_second_decision_is_told_who_decided(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    record_decision(request=request, reviewer=people.rita, outcome=Outcome.APPROVED)
    with pytest.raises(Conflict, match="approved by rita on 20"):
        reject(request, people.olga)


@pytest.mark.parametrize(
    ("outcome", "code", "words", "field"),
    [
        ("rejected", "", "No.", "reason_code"),
        ("rejected", "other", "  ", "words"),
        ("rejected", "because", "No.", "reason_code"),
        ("changes_requested", "", "", "words"),
        ("maybe", "", "", "outcome"),
    ],
)
def test_decision_against_needs_reason_and_words(
    people: Any, submit: Any, outcome: str, code: str, words: str, field: str
) -> None:
    request = submit(people.ada, people.model)
    with pytest.raises(Invalid) as refused:
        record_decision(request=request, reviewer=people.rita, outcome=outcome, reason_code=code, words=words)
    assert refused.value.field == field
    assert not Decision.objects.exists()


def test_changes_requested_goes_back_and_comes_again(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    record_decision(
        request=request, reviewer=people.rita, outcome=Outcome.CHANGES_REQUESTED, words="Which data?"
    )
    assert access_of(people.ada, people.model).code == AccessCode.CHANGES_REQUESTED
    again = submit(people.ada, people.model, answers=TULU_ANSWERS | {"f5": "Study on our own data."})
    assert again.pk == request.pk
    again.refresh_from_db()
    assert (again.state, again.intended_use) == (RequestState.SUBMITTED, "Study on our own data.")
    assert OutgoingMail.objects.filter(to=people.rita.email).count() == 2


def test_appeal_is_heard_by_another_reviewer_and_only_once(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    reject(request, people.rita)
    appeal_request(request=request, applicant=people.ada, words="Please read my use again.")
    with pytest.raises(NotAllowed, match="another reviewer"):
        record_decision(request=request, reviewer=people.rita, outcome=Outcome.APPROVED)
    assert reject(request, people.olga).on_appeal
    with pytest.raises(Conflict, match="once"):
        appeal_request(request=request, applicant=people.ada, words="Again.")


def test_sole_reviewer_hears_the_appeal_and_the_log_says_so(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    ada, olga, model = make_person("ada"), make_person("olga"), make_model()
    assign_role(model=model, user=olga, role="owner")
    request = submit(ada, model)
    reject(request, olga)
    appeal_request(request=request, applicant=ada, words="Please look again.")
    record_decision(request=request, reviewer=olga, outcome=Outcome.APPROVED)
    assert Event.objects.get(kind="request.approved").data["heard_own_appeal"] is True


@pytest.mark.parametrize("state", ["draft", "submitted", "in_review", "changes_requested", "appealed"])
def test_applicant_may_withdraw_from_every_open_state_and_ask_again(
    people: Any, submit: Any, state: str
) -> None:
    request = start_request(model=people.model, applicant=people.ada)
    if state != "draft":
        submit(people.ada, people.model)
    if state == "in_review":  # the state after a decision was taken back
        reject(request, people.rita)
        change_place(
            model=people.model, person=people.ada, to=Place.PENDING, reviewer=people.rita, words="Again."
        )
    if state == "changes_requested":
        record_decision(
            request=request, reviewer=people.rita, outcome=Outcome.CHANGES_REQUESTED, words="What?"
        )
    if state == "appealed":
        reject(request, people.rita)
        appeal_request(request=request, applicant=people.ada, words="Why?")
    request.refresh_from_db()
    assert request.state == state
    with pytest.raises(NotAllowed):
        withdraw_request(request=request, applicant=people.sam)
    assert withdraw_request(request=request, applicant=people.ada).state == RequestState.WITHDRAWN
    assert start_request(model=people.model, applicant=people.ada).pk != request.pk


def test_auto_gate_approves_by_policy(people: Any, make_model: Callable[..., Any], submit: Any) -> None:
    model = make_model("ai/auto", gate=Gate.AUTO)
    submit(people.ada, model)
    assert access_of(people.ada, model).allowed
    assert Decision.objects.get().reviewer is None
    assert Event.objects.get(kind="request.approved").actor_name == "policy"


def test_queue_position_counts_those_before(
    people: Any, make_person: Callable[..., Any], submit: Any
) -> None:
    first = submit(people.ada, people.model)
    second = submit(people.sam, people.model)
    assert (queue_position(first), queue_position(second)) == (1, 2)
    reject(first, people.rita)
    assert queue_position(second) == 1


def test_after_revocation_a_new_request_may_be_made(people: Any, submit: Any) -> None:
    request = submit(people.ada, people.model)
    record_decision(request=request, reviewer=people.rita, outcome=Outcome.APPROVED)
    revoke_access(model=people.model, user=people.ada, reason="The project ended.", actor=people.olga)
    assert access_of(people.ada, people.model).code == AccessCode.REVOKED
    again = submit(people.ada, people.model)
    assert access_of(people.ada, people.model).code == AccessCode.PENDING
    record_decision(request=again, reviewer=people.rita, outcome=Outcome.APPROVED)
    assert access_of(people.ada, people.model).allowed


def test_operators_grant_stands_beside_an_open_request_and_approval_prolongs_it(
    people: Any, submit: Any
) -> None:
    request = submit(people.ada, people.model)
    grant = grant_access(model=people.model, email=people.ada.email, days=3).grant
    assert access_of(people.ada, people.model).allowed
    record_decision(request=request, reviewer=people.rita, outcome=Outcome.APPROVED)
    grant.refresh_from_db()
    assert Grant.objects.count() == 1
    assert (grant.ends_at - grant.starts_at).days == 365


@pytest.mark.django_db(transaction=True)
def test_six_threads_make_one_decision_one_grant_and_one_mail(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    model, ada = make_model(), make_person("ada")
    reviewers = [make_person(f"reviewer{n}") for n in range(6)]
    for reviewer in reviewers:
        assign_role(model=model, user=reviewer, role="reviewer")
    request = submit(ada, model)

    def decide(number: int) -> str:
        try:
            if number % 2:
                reject(request, reviewers[number])
            else:
                record_decision(request=request, reviewer=reviewers[number], outcome=Outcome.APPROVED)
        except RuleError as error:
            return error.sentence
        return "won"

    results = all_at_once(6, decide)
    request.refresh_from_db()
    decision = Decision.objects.get()
    assert results.count("won") == 1
    assert all(
        f"was already decided: {decision.get_outcome_display()} by" in text
        for text in results
        if text != "won"
    )
    assert request.state == decision.outcome
    assert Grant.objects.count() == (1 if decision.outcome == Outcome.APPROVED else 0)
    assert OutgoingMail.objects.filter(to=ada.email, key__startswith="decision:").count() == 1
    assert verify_chain().ok
