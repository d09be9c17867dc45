"""The applicant's calls: ask-access with label -> answer, and cancel."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from access_requests.enums import Gate, RequestState
from access_requests.models import AccessRequest, Event, LicenceAcceptance, OutgoingMail
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.submit import save_draft, start_request
from tests.model_ops.hub.requests.conftest import AGREE, WHOLE
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"


def ask(desk: Any, body: Any = None, *, who: str = "ada", model: str = "ai/plain", **options: Any) -> Any:
    return desk.api(who, "POST", f"/{model}/ask-access", body, **options)


def request_of(desk: Any) -> AccessRequest:
    return AccessRequest.objects.filter(applicant=desk.ada).latest("pk")


def test_whole_answers_make_a_request_and_lead_to_the_page(desk: Any, plain: Any) -> None:
    answer = ask(desk, WHOLE, headers={"host": "testserver"}, REMOTE_ADDR="192.0.2.7")
    assert (answer.status_code, answer.headers["Location"]) == (303, "http://testserver/ai/plain")
    assert "X-Error-Message" not in answer.headers
    request = request_of(desk)
    assert request.state == RequestState.SUBMITTED
    assert request.answers == {"f1": "To test.", "f2": "FR", "f3": "other", "f7": True}
    assert (request.country.code, request.address) == ("FR", "192.0.2.7")
    assert {"ada@example.org", "rita@example.org"} == set(OutgoingMail.objects.values_list("to", flat=True))
    item = desk.api("rita", "GET", "/api/models/ai/plain/user-access-request/pending").json()[0]
    assert item["fields"] == {
        "Why": "To test.", "Country": "FR", "Kind of use": "other", AGREE: True, "geo": "192.0.2.7"
    }  # fmt: skip


def test_form_and_multipart_say_the_same_as_json(desk: Any, plain: Any) -> None:
    fields = {**WHOLE, AGREE: "on", "Papers": "none", "Since": "2024-01-31"}
    assert ask(desk, urlencode(fields), content_type=FORM).status_code == 303
    assert request_of(desk).answers["f5"] == []
    assert request_of(desk).answers["f4"] == "2024-01-31"
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    )
    answer = ask(desk, parts + "--x--\r\n", who="sam", content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 303
    assert AccessRequest.objects.filter(applicant=desk.sam, state="submitted").exists()


def test_what_a_list_tells_can_be_asked_with(desk: Any, plain: Any) -> None:
    ask(desk, {**WHOLE, "Papers": ["10.1000/x1", "arXiv:2306.04751"]})
    fields = desk.api("rita", "GET", "/api/models/ai/plain/user-access-request/pending").json()[0]["fields"]
    assert ask(desk, fields, who="sam").status_code == 303
    asked = AccessRequest.objects.get(applicant=desk.sam)
    assert asked.answers == request_of(desk).answers


@pytest.mark.parametrize("missing", [["Why"], ["Country", "Kind of use"], [AGREE]])
def test_what_is_missing_is_named_and_what_was_given_is_kept(
    desk: Any, plain: Any, missing: list[str]
) -> None:
    answer = ask(desk, {label: given for label, given in WHOLE.items() if label not in missing})
    assert (answer.status_code, "X-Error-Code" in answer.headers) == (400, False)
    message = answer.headers["X-Error-Message"]
    assert "kept as a draft: continue at http://127.0.0.1:8000/ai/plain/request" in message
    assert [label for label in WHOLE if label in message] == [label for label in WHOLE if label in missing]
    request = request_of(desk)
    assert request.state == RequestState.DRAFT
    assert len(list(filter(None, request.answers.values()))) == len(WHOLE) - len(missing)
    rest = {label: WHOLE[label] for label in missing} | {AGREE: True}
    assert ask(desk, rest).status_code == 303
    assert request_of(desk).state == RequestState.SUBMITTED


@pytest.mark.parametrize(
    ("label", "bad", "said"),
    [
        ("Country", "Atlantis", "not in the list"),
        ("Kind of use", "War", "not one of the options"),
        ("Since", "31.1.2024", "not a valid date"),
        ("Why", {"a": 1}, "must be answered with text"),
        ("Why", True, "must be answered with text"),
        ("Why", "a\0b", "cannot be stored"),
        ("Why", "\ud800", "cannot be stored"),
        ("Why", "x" * 20_000, "shorten it"),
        (AGREE, "perhaps", "answer true or false"),
        (AGREE, False, "tick it"),
        ("Papers", ["not a paper"], "not a paper"),
    ],
)
def test_bad_answer_is_named_and_the_others_are_kept(
    desk: Any, plain: Any, label: str, bad: Any, said: str
) -> None:
    answer = ask(desk, {**WHOLE, label: bad})
    assert answer.status_code == 400
    assert said in answer.headers["X-Error-Message"]
    request = request_of(desk)
    assert request.state == RequestState.DRAFT
    assert [request.answers[key] for key, other in (("f1", "Why"), ("f2", "Country")) if other != label] == [
        text for text, other in (("To test.", "Why"), ("FR", "Country")) if other != label
    ]


def test_unknown_label_is_refused_with_the_forms_own(desk: Any, plain: Any) -> None:
    for label in ("Nonsense", "why", "名前 " * 400, '{"Why": "x"}', "\ud800"):
        answer = ask(desk, {**WHOLE, label: "x"})
        assert answer.status_code == 400
        assert "The form has no field" in answer.headers["X-Error-Message"]
        assert "“Why”" in answer.content.decode()
    assert request_of(desk).answers["f1"] == "To test."


def test_labels_in_other_scripts_stand_in_the_body(desk: Any, make_model: Any) -> None:
    make_model("ai/cjk", card="---\nextra_gated_fields:\n  意图: text\n---\n", licences=())
    answer = ask(desk, {}, model="ai/cjk")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "“意图”" in answer.content.decode()
    assert answer.headers["X-Error-Message"].isascii()


def test_agreement_of_a_draft_or_an_earlier_request_is_not_taken_for_this_one(desk: Any, plain: Any) -> None:
    draft = start_request(model=plain, applicant=desk.ada)
    save_draft(request=draft, applicant=desk.ada, answers={"f1": "x", "f2": "FR", "f3": "other", "f7": True})
    answer = ask(desk, {})
    assert answer.status_code == 400
    assert AGREE in answer.headers["X-Error-Message"]
    assert ask(desk, {AGREE: True}).status_code == 303


def test_licence_that_must_be_read_is_agreed_to_on_the_page(desk: Any) -> None:
    """All answers are given, including the agreement, but the text was not shown."""
    labels = {field["label"]: "x" for field in desk.model.form.schema["fields"]}
    given = {label: True if label.startswith("I agree") else text for label, text in labels.items()}
    given |= {"Country (where user is located)": "GB", "Previous Related Publications": "none"}
    answer = ask(desk, given, model="ai/tulu")
    assert answer.status_code == 400
    assert "read it and submit at http://127.0.0.1:8000/ai/tulu/request" in answer.headers["X-Error-Message"]
    request = request_of(desk)
    assert (request.state, request.answers["f3"]) == (RequestState.DRAFT, "x")
    assert not LicenceAcceptance.objects.exists()


@pytest.mark.parametrize("where", ["pending", "accepted", "granted", "rejected"])
def test_asking_again_changes_nothing_and_says_why(desk: Any, stand: Any, where: str) -> None:
    stand(where)
    before = AccessRequest.objects.count(), Event.objects.count(), OutgoingMail.objects.count()
    for body in ({}, {"Institution": "Another"}):
        answer = ask(desk, body, model="ai/tulu")
        assert (answer.status_code, answer.headers["Location"]) == (303, "http://testserver/ai/tulu")
        assert answer.headers["X-HF-Warning"].startswith("access; Nothing was changed. ")
    assert (AccessRequest.objects.count(), Event.objects.count(), OutgoingMail.objects.count()) == before


def test_after_a_reset_a_new_request_is_made(desk: Any, plain: Any) -> None:
    ask(desk, WHOLE)
    first = request_of(desk)
    change_place(model=plain, person=desk.ada, to="reset", reviewer=desk.rita)
    assert ask(desk, {AGREE: True, "Why": "To test more."}).status_code == 303
    again = request_of(desk)
    assert (again.pk > first.pk, again.submitted_at > first.submitted_at) == (True, True)
    assert again.answers == {**first.answers, "f1": "To test more."}


def test_changes_that_were_asked_for_are_handed_in(desk: Any, plain: Any) -> None:
    ask(desk, WHOLE)
    request = request_of(desk)
    record_decision(request=request, reviewer=desk.rita, outcome="changes_requested", words="Why?")
    assert ask(desk, {}).status_code == 303
    request.refresh_from_db()
    assert request.state == RequestState.CHANGES_REQUESTED
    assert ask(desk, {"Why": "To compare.", AGREE: True}).status_code == 303
    request.refresh_from_db()
    assert (request.state, request.answers["f1"]) == (RequestState.SUBMITTED, "To compare.")


def test_auto_gate_lets_in_at_once(desk: Any, plain: Any) -> None:
    plain.gate = Gate.AUTO
    plain.save()
    assert ask(desk, WHOLE).status_code == 303
    assert desk.ada.grants.count() == 1


def test_form_without_fields_needs_none(desk: Any, make_model: Any) -> None:
    make_model("ai/bare", card="# Bare\n", licences=())
    assert ask(desk, model="ai/bare").status_code == 303
    assert request_of(desk).state == RequestState.SUBMITTED


def test_model_without_gate_is_not_asked_for(desk: Any, plain: Any) -> None:
    plain.gate = Gate.NONE
    plain.save()
    answer = ask(desk, WHOLE)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (400, "RepoNotGated")
    assert not AccessRequest.objects.exists()


def test_only_a_token_of_the_person_asks_and_cancels(desk: Any, plain: Any, grant_token: str) -> None:
    desk.tokens["cluster"] = grant_token
    cancel = "/api/models/ai/plain/user-access-request/cancel"
    for who, status, opening in (
        ("nobody", 401, "Invalid username or password."),
        ("unknown", 401, "Invalid username or password."),
        ("cluster", 403, "You have read access but not the required permissions"),
    ):
        for answer in (ask(desk, WHOLE, who=who), desk.api(who, "POST", cancel)):
            assert answer.status_code == status
            assert answer.headers["X-Error-Message"].startswith(opening)
    assert not AccessRequest.objects.filter(model=plain).exists()


def test_page_of_asking_is_no_page(desk: Any, plain: Any) -> None:
    for who in ("nobody", "ada"):
        answer = desk.api(who, "GET", "/ai/plain/ask-access")
        assert (answer.status_code, "X-Error-Code" in answer.headers) == (404, False)
    assert ask(desk, WHOLE, model="ai/nothing").headers["X-Error-Code"] == "RepoNotFound"


UNREADABLE = [
    (b"{", "application/json"),
    (b"[]", "application/json"),
    (b"why not", "text/plain"),
    (b"--x", "multipart/form-data"),
    (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
    (b"&".join(b"a%d=1" % n for n in range(2000)), FORM),
]


def test_unreadable_body_is_refused_in_words(desk: Any, plain: Any) -> None:
    for body, kind in UNREADABLE:
        answer = ask(desk, body, content_type=kind)
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "text/plain; charset=utf-8"), (
            body
        )
        assert answer.headers["X-Error-Message"]


@pytest.mark.django_db(transaction=True)
def test_of_four_that_ask_at_once_one_request_is_made_and_all_are_led_to_the_page(
    desk: Any, plain: Any
) -> None:
    answers = all_at_once(4, lambda number: ask(desk, WHOLE).status_code)
    assert answers == [303] * 4
    assert list(AccessRequest.objects.values_list("state", flat=True)) == ["submitted"]


# -- cancel ------------------------------------------------------------------------------------------------


def cancel(desk: Any, **options: Any) -> Any:
    return desk.post("cancel", who="ada", **options)


@pytest.mark.parametrize("where", ["pending", "changes_requested"])
def test_cancel_withdraws_what_waits_and_is_gone_from_everywhere(desk: Any, stand: Any, where: str) -> None:
    request = stand(where)
    answer = cancel(desk)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    request.refresh_from_db()
    assert request.state == RequestState.WITHDRAWN
    assert [desk.names(place) for place in ("pending", "accepted", "rejected", "reset")] == [[]] * 4
    assert cancel(desk).status_code == 404


@pytest.mark.parametrize("where", ["nowhere", "draft", "accepted", "granted", "rejected", "reset"])
def test_cancel_of_anything_else_is_not_found_and_changes_nothing(desk: Any, stand: Any, where: str) -> None:
    if where == "draft":
        start_request(model=desk.model, applicant=desk.ada)
    elif where != "nowhere":
        stand(where)
    before = list(AccessRequest.objects.values_list("state", flat=True))
    answer = cancel(desk)
    assert (answer.status_code, "X-Error-Code" in answer.headers) == (404, False)
    assert answer.json()["error"].startswith("No pending access request found for this repo and this user. ")
    assert list(AccessRequest.objects.values_list("state", flat=True)) == before
