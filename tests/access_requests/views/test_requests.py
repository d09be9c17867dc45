"""The request form over HTTP: drafts, gaps, changed licences and forms, double submissions, ways out."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access_requests.enums import Gate, Outcome, ReasonCode, RequestState
from access_requests.models import AccessRequest, Decision, LicenceAcceptance
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences, update_card
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from access_requests.services.requests.decide import record_decision
from tests.conftest import TULU_CARD

pytestmark = pytest.mark.django_db

FORM = "/ai/tulu/request"
TYPED = {
    "f1": "Ada",
    "f2": "Lovelace",
    "f3": "Analytical Society",
    "f4": "GB",
    "f5": "Study of instruction following.",
    "f6": "10.1000/xyz123",
    "f7": "on",
}


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Return applicant ada with a browser, reviewers rita and olga, and a model."""

    class People:
        ada, rita, olga = (
            make_person("ada", first_name="Ada", country="GB"),
            make_person("rita"),
            make_person("olga"),
        )
        model = make_model()
        browser = Client()

        @classmethod
        def post(cls, action: str = "submit", **changes: Any) -> Any:
            """Send what the browser would send from the form as it is shown now."""
            form = open_form(cls.ada, cls.model)
            licences = list(cls.model.licence_versions.filter(retired_at=None).values_list("pk", flat=True))
            data = {"form": form, "licence": licences, "action": action, **TYPED, **changes}
            return cls.browser.post(FORM, {key: value for key, value in data.items() if value is not None})

        @classmethod
        def request(cls) -> AccessRequest:
            return AccessRequest.objects.get(applicant=cls.ada)

    for person in (People.rita, People.olga):
        assign_role(model=People.model, user=person, role="reviewer")
    People.browser.force_login(People.ada)
    return People


def open_form(person: Any, model: Any) -> int:
    current = AccessRequest.objects.filter(applicant=person, closed_at=None).first()
    model.refresh_from_db()
    return current.form_id if current else model.form_id


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def decide(people: Any, outcome: Outcome, reviewer: Any = None, **fields: str) -> None:
    fields.setdefault("words", "Say more.")
    record_decision(request=people.request(), reviewer=reviewer or people.rita, outcome=outcome, **fields)


def test_anonymous_is_sent_to_sign_in_and_back(people: Any, client: Client) -> None:
    response = client.get(FORM)
    assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={FORM}")


def test_form_shows_licence_whole_prefilled_and_starts_nothing(people: Any) -> None:
    response = people.browser.get(FORM)
    shown = page(response)
    assert response.status_code == 200
    assert '<h1 dir="auto">Ask for Tulu</h1>' in shown
    assert "Read the licence first." in shown
    assert 'role="region"' in shown
    assert "Be good.\n" in shown
    assert 'value="Ada"' in shown
    assert ">Send the request</button>" in shown
    assert not AccessRequest.objects.exists()


def test_draft_is_saved_incomplete(people: Any) -> None:
    response = people.post("save", f3="", f4="", f7=None)
    assert (response.status_code, response["Location"]) == (302, FORM)
    assert people.request().state == RequestState.DRAFT
    assert 'value="Lovelace"' in page(people.browser.get(FORM))


def test_complete_form_is_submitted_once_although_sent_twice(people: Any) -> None:
    sent = people.post()
    assert (sent.status_code, sent["Location"]) == (302, "/ai/tulu")
    again = people.post()
    assert (again.status_code, again["Location"]) == (302, "/ai/tulu")
    request = people.request()
    assert (request.state, request.country, request.publications) == (
        RequestState.SUBMITTED,
        "GB",
        ["10.1000/xyz123"],
    )
    assert request.address == "127.0.0.1"
    assert LicenceAcceptance.objects.filter(request=request).count() == 1


def test_gaps_are_named_and_what_was_typed_is_kept(people: Any) -> None:
    response = people.post(f3="", f6="not a paper", f7=None)
    shown = page(response)
    assert response.status_code == 422
    assert 'href="#id_f3"' in shown
    assert "Line 1, “not a paper”, is no DOI" in shown
    assert 'href="#id_f7"' in shown
    request = people.request()
    assert (request.state, request.intended_use) == (RequestState.DRAFT, TYPED["f5"])
    assert "not a paper" in page(people.browser.get(FORM))


def test_licence_changed_meanwhile_is_read_again(people: Any) -> None:
    old = people.model.licence_versions.get()
    replace_licences(model=people.model, licences=[LicenceText("licence.txt", "en", "Be better.\n")])
    response = people.post(licence=[old.pk])
    shown = page(response)
    assert response.status_code == 409
    assert "The licence changed while you were reading it" in shown
    assert "Be better.\n" in shown
    assert TYPED["f5"] in shown
    assert not LicenceAcceptance.objects.exists()


def test_form_changed_meanwhile_carries_the_answers_over_by_label(people: Any) -> None:
    old = people.model.form_id
    card = TULU_CARD.replace("  First Name: text\n", "  Sponsor: text\n  First Name: text\n")
    update_card(model=people.model, card=card)
    response = people.post(form=old)
    shown = page(response)
    assert response.status_code == 409
    assert "The owner changed the form" in shown
    answers = people.request().answers
    assert (answers["f2"], answers["f3"], answers.get("f1")) == ("Ada", "Lovelace", None)
    sent = people.post(
        f1="A sponsor", f2="Ada", f3="Lovelace", f4="Society", f5="GB", f6="A use.", f7="none", f8="on"
    )
    assert (sent.status_code, people.request().state) == (302, RequestState.SUBMITTED)


def test_licence_without_a_field_asks_to_agree(people: Any, make_model: Any) -> None:
    card = TULU_CARD[: TULU_CARD.index('  "I agree')] + "---\n"
    update_card(model=people.model, card=card)
    people.model.refresh_from_db()
    refused = people.post(f7=None)
    shown = page(refused)
    assert refused.status_code == 400
    assert 'href="#id_agree"' in shown
    assert people.request().state == RequestState.DRAFT
    assert people.post(f7=None, agree="on").status_code == 302
    assert people.request().acceptances.count() == 1


def test_union_is_refused_with_the_sentence(people: Any) -> None:
    update_card(
        model=people.model,
        card=TULU_CARD.replace("---\nlicense", "---\nextra_gated_eu_disallowed: true\nlicense"),
    )
    people.model.refresh_from_db()
    response = people.post(f4="DE")
    assert response.status_code == 422
    assert "The owner does not offer this model in the European Union" in page(response)
    assert people.request().state == RequestState.DRAFT


def test_network_address_note_stands_where_the_form_asks_for_it(people: Any) -> None:
    assert "network address" not in page(people.browser.get(FORM))
    update_card(
        model=people.model, card=TULU_CARD.replace("  First Name", "  geo: ip_location\n  First Name")
    )
    assert "the portal records the network address" in page(people.browser.get(FORM))


def test_changes_requested_shows_the_words_and_takes_the_answer(people: Any) -> None:
    people.post()
    decide(people, Outcome.CHANGES_REQUESTED, words="Which <i>data</i>?")
    response = people.browser.get(FORM)
    assert b"Which &lt;i&gt;data&lt;/i&gt;?" in response.content
    assert people.post(f5="Only MMLU.").status_code == 302
    assert (people.request().state, people.request().intended_use) == (RequestState.SUBMITTED, "Only MMLU.")


def test_auto_gate_grants_at_once_and_the_second_post_is_harmless(people: Any) -> None:
    people.model.gate = Gate.AUTO
    people.model.save()
    assert people.post()["Location"] == "/ai/tulu"
    assert people.request().state == RequestState.APPROVED
    assert people.post()["Location"] == "/ai/tulu"
    assert people.ada.grants.count() == 1
    assert people.browser.get(FORM)["Location"] == "/ai/tulu/access"


def test_waiting_request_is_changed_and_keeps_its_place(people: Any) -> None:
    people.post()
    before = people.request()
    opened = page(people.browser.get(FORM))
    assert "Your request is waiting for a decision" in opened
    assert 'name="submission" value="1"' in opened
    assert people.post(f5="Only MMLU.", action="save", submission="1").status_code == 302
    assert people.request().intended_use == before.intended_use
    again = page(people.browser.get(FORM))
    assert "Only MMLU." in again
    assert "changes that you have saved but not submitted" in again
    assert people.post(f5="Only MMLU.", submission="1")["Location"] == "/ai/tulu"
    after = people.request()
    assert (after.intended_use, after.draft) == ("Only MMLU.", None)
    assert (after.state, after.submitted_at) == (RequestState.SUBMITTED, before.submitted_at)
    assert "keeps its place in the queue" in page(people.browser.get("/ai/tulu"))
    versions = page(people.browser.get(f"{FORM}/submissions"))
    assert "Submission 2" in versions
    assert before.intended_use in versions


def test_posting_the_same_answers_twice_changes_nothing(people: Any) -> None:
    people.post()
    assert people.post()["Location"] == "/ai/tulu"
    assert people.request().submissions.count() == 1


def test_tab_that_was_opened_before_does_not_overwrite_what_was_submitted(people: Any) -> None:
    people.post(submission="0")
    late = people.post(f5="From the other tab.", submission="0")
    assert late.status_code == 409
    assert "in another tab" in page(late)
    assert "From the other tab." in page(late)
    assert people.request().submissions.count() == 1
    assert people.post(f5="From the other tab.", submission="1").status_code == 302
    assert people.request().intended_use == "From the other tab."


def test_new_request_after_a_rejection_names_the_one_it_corrects(people: Any) -> None:
    people.post()
    decide(people, Outcome.REJECTED, words="No.", reason_code="other")
    first = people.request()
    assert people.browser.get(f"{FORM}/submissions").status_code == 200
    people.post(f5="Better explained.")
    assert people.model.requests.latest("pk").predecessor == first


def test_submissions_of_an_earlier_request_are_only_for_its_author(people: Any, client: Client) -> None:
    people.post()
    first = people.request()
    people.browser.post(f"{FORM}/withdraw")
    people.post(f5="The second request.")
    earlier = page(people.browser.get(f"{FORM}/submissions", {"request": first.pk}))
    assert f"request #{first.pk}" in earlier
    assert "The second request." not in earlier
    assert f"?request={first.pk}" in page(people.browser.get("/me/"))
    client.force_login(people.rita)
    assert client.get(f"{FORM}/submissions", {"request": first.pk})["Location"] == "/ai/tulu"


def test_submissions_of_someone_who_never_asked(people: Any) -> None:
    assert people.browser.get(f"{FORM}/submissions")["Location"] == "/ai/tulu"


def test_garbage_in_hidden_fields_is_harmless(people: Any) -> None:
    assert people.post(form="x' OR 1=1").status_code == 409
    assert people.post(licence=["x", "99999999999999999999999", "-1"]).status_code == 409
    assert people.request().state == RequestState.DRAFT


def test_withdrawing_asks_first_and_is_done_once(people: Any) -> None:
    people.post()
    assert "Withdraw request" in page(people.browser.get(f"{FORM}/withdraw"))
    assert people.request().state == RequestState.SUBMITTED
    assert people.browser.post(f"{FORM}/withdraw")["Location"] == "/ai/tulu"
    assert people.request().state == RequestState.WITHDRAWN
    assert people.browser.post(f"{FORM}/withdraw")["Location"] == "/ai/tulu"


def test_appeal_needs_words_and_works_once(people: Any) -> None:
    people.post()
    decide(people, Outcome.REJECTED, reason_code=ReasonCode.USE_UNCLEAR)
    empty = people.browser.post(f"{FORM}/appeal", {"words": "  "})
    assert empty.status_code == 400
    assert "Say why the decision should be reconsidered." in page(empty)
    assert people.browser.post(f"{FORM}/appeal", {"words": "It is clear."})["Location"] == "/ai/tulu"
    assert people.request().state == RequestState.APPEALED
    assert people.browser.post(f"{FORM}/appeal", {"words": "Again."})["Location"] == "/ai/tulu"
    decide(people, Outcome.REJECTED, people.olga, reason_code=ReasonCode.USE_UNCLEAR)
    assert people.browser.post(f"{FORM}/appeal", {"words": "Again."}).status_code == 409


def test_looking_at_the_form_after_a_rejection_leaves_the_appeal_open(people: Any) -> None:
    people.post()
    decide(people, Outcome.REJECTED, reason_code=ReasonCode.USE_UNCLEAR)
    shown = page(people.browser.get(FORM))
    assert TYPED["f5"] in shown
    assert AccessRequest.objects.count() == 1


def test_labels_and_answers_are_inert(people: Any) -> None:
    label = "<script>alert(1)</script> [x](javascript:alert(1)) ![p](x)"
    card = TULU_CARD.replace("Institution: text", f"'{label}': text").replace(
        "Ask for Tulu", "<b>Ask</b> <script>1</script>"
    )
    update_card(model=people.model, card=card)
    people.model.refresh_from_db()
    response = people.post("save", f3='"><script>alert(2)</script>')
    assert response.status_code == 302
    body = people.browser.get(FORM).content.decode()
    body = body[body.index("<main") :]
    for bad in ("<script", 'href="javascript', "<img"):
        assert bad not in body


def test_form_of_a_stranger_touches_only_their_own(people: Any, make_person: Any, client: Client) -> None:
    people.post("save")
    client.force_login(make_person("sam"))
    assert TYPED["f5"] not in page(client.get(FORM))
    assert client.post(f"{FORM}/withdraw")["Location"] == "/ai/tulu"
    assert people.request().state == RequestState.DRAFT


def test_my_requests_lists_only_mine_with_a_bounded_number_of_queries(
    people: Any,
    make_model: Any,
    submit: Any,
    make_person: Any,
    client: Client,
    django_assert_num_queries: Any,
) -> None:
    other = make_person("sam")
    submit(other, people.model)
    counts = []
    for number in range(4):
        model = make_model(f"ai/m{number}")
        submit(people.ada, model)
        assign_role(model=model, user=people.rita, role="reviewer")
        record_decision(
            request=AccessRequest.objects.get(model=model), reviewer=people.rita, outcome=Outcome.APPROVED
        )
        counts.append(queries(people.browser, "/me/"))
    shown = page(people.browser.get("/me/"))
    assert counts[0] == counts[-1]
    assert "ai/m3" in shown
    assert "ai/tulu" not in shown
    assert "your token has not been shown yet" in shown
    assert client.get("/me/")["Location"] == "/accounts/login/?next=/me/"


def queries(browser: Client, address: str) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    browser.get(address)
    with CaptureQueriesContext(connection) as seen:
        assert browser.get(address).status_code == 200
    return len(seen)


def test_grant_of_an_operator_shows_without_a_request(people: Any) -> None:
    grant_access(model=people.model, email=people.ada.email, days=9)
    shown = page(people.browser.get("/me/"))
    assert 'href="/ai/tulu/access"' in shown
    assert not Decision.objects.exists()


def test_the_form_shows_each_licence_once_in_the_readers_language(people: Any) -> None:
    german = LicenceText("licence.txt", "de", "Sei brav.\n")
    english = LicenceText("licence.txt", "en", "Be good.\n")
    replace_licences(model=people.model, licences=[english, german])
    shown = page(people.browser.get(FORM, headers={"accept-language": "de-CH, de;q=0.9, en;q=0.8"}))
    assert "Sei brav." in shown
    assert "Be good." not in shown
    assert "This is a translation." in shown
    read = people.model.licence_versions.get(language="de", retired_at=None)
    assert f'name="licence" value="{read.pk}"' in shown
    response = people.post(licence=[read.pk])
    assert response.status_code == 302
    accepted = LicenceAcceptance.objects.get()
    assert (accepted.language, accepted.binding.language) == ("de", "en")
