"""handle, grant and batch: statuses, messages and codes as recorded from the Hub, rules as in the admin."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from access_requests.access.access import access_of
from access_requests.enums import Gate, Place
from access_requests.models import AccessRequest, Decision, Event, Grant, OutgoingMail
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.submit import appeal_request

pytestmark = pytest.mark.django_db

NO_REQUEST = "No access request found matching your criteria"


def handle(desk: Any, status: str, **body: Any) -> Any:
    if not {"user", "userId", "requestId"} & set(body):
        body["user"] = "ada"
    if status == "rejected":
        body.setdefault("rejectionReason", "The use is not covered.")
    return desk.post("handle", {"status": status, **body})


@pytest.mark.parametrize(
    ("source", "target"), list(permutations(["pending", "accepted", "rejected", "reset"], 2))
)
def test_handle_moves_from_each_list_to_each_other(desk: Any, stand: Any, source: str, target: str) -> None:
    stand(source)
    before = desk.list(source).json()[0]
    answer = handle(desk, target)
    assert (answer.status_code, answer.json()) == (200, {})
    assert (desk.names(source), desk.names(target)) == ([], ["ada"])
    after = desk.list(target).json()[0]
    assert (after["timestamp"], after["requestId"]) == (before["timestamp"], before["requestId"])
    assert ("reviewedAt" in after) == (target != "pending")
    assert access_of(desk.ada, desk.model).allowed == (target == "accepted")


@pytest.mark.parametrize("place", Place)
def test_same_status_is_not_found(desk: Any, stand: Any, place: Place) -> None:
    stand(place.value)
    answer = handle(desk, place.value)
    assert (answer.status_code, "X-Error-Code" in answer.headers) == (404, False)
    assert answer.json()["error"].startswith(f"{NO_REQUEST}. ada is {place} for ai/tulu already.")


def test_nothing_asked_is_not_found_and_nobody_unknown_is(desk: Any) -> None:
    answer = handle(desk, "accepted")
    assert (answer.status_code, answer.json()["error"]) == (
        404, f"{NO_REQUEST}. ada has not asked for ai/tulu and has no access."
    )  # fmt: skip
    answer = handle(desk, "accepted", user="nobody-here")
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("User not found")


def test_rejection_reaches_the_applicant_with_its_words(desk: Any, stand: Any) -> None:
    stand("pending")
    handle(desk, "rejected", rejectionReason="Which <data>, naïvely?")
    decision = Decision.objects.get()
    assert (decision.reviewer, decision.reason_code, decision.words) == (
        desk.rita,
        "other",
        "Which <data>, naïvely?",
    )
    assert "Which <data>, naïvely?" in OutgoingMail.objects.latest("pk").text
    assert Event.objects.get(kind="request.rejected").actor == desk.rita


@pytest.mark.parametrize("reason", [None, "", "   "])
def test_rejection_without_words_is_refused(desk: Any, stand: Any, reason: str | None) -> None:
    stand("pending")
    answer = handle(desk, "rejected", rejectionReason=reason)
    assert answer.status_code == 400
    assert answer.json()["error"] == "rejectionReason: write a message to the applicant: say why."
    assert desk.names("pending") == ["ada"]


def test_reset_reason_reaches_the_applicant(desk: Any, stand: Any) -> None:
    stand("rejected")
    assert handle(desk, "reset", resetReason="Another form.").status_code == 200
    assert "Another form." in OutgoingMail.objects.latest("pk").text


def test_reason_of_an_approval_is_ignored(desk: Any, stand: Any) -> None:
    stand("pending")
    assert handle(desk, "accepted", rejectionReason="No.").status_code == 200
    assert Decision.objects.get().words == ""


BAD_BODIES = [
    ({"user": "ada", "status": "maybe"}, "status"),
    ({"user": "ada", "status": None}, "status"),
    ({"user": "ada", "status": ["accepted"]}, "status"),
    ({"user": "ada"}, "status"),
    ({"status": "accepted"}, "user or userId or requestId"),
    ({"user": "ada", "userId": "1", "status": "accepted"}, "user or userId or requestId"),
    ({"user": 7, "status": "accepted"}, "user"),
    ({"user": "", "status": "accepted"}, "user"),
    ({"user": "a\0da", "status": "accepted"}, "user"),
    ({"user": "\ud800", "status": "accepted"}, "user"),
    ({"user": "a" * 201, "status": "accepted"}, "user"),
    ({"requestId": 1, "status": "accepted"}, "requestId"),
    ({"user": "ada", "status": "rejected", "rejectionReason": "x" * 201}, "rejectionReason"),
    ({"user": "ada", "status": "rejected", "rejectionReason": ["x"]}, "rejectionReason"),
    ({"user": "ada", "status": "reset", "resetReason": "x" * 201}, "resetReason"),
    ({"user": "ada", "status": "reset", "resetReason": "\udfff"}, "resetReason"),
]


def test_bad_body_is_refused_by_the_fields_name(desk: Any, stand: Any) -> None:
    stand("pending")
    for body, names in BAD_BODIES:
        answer = desk.post("handle", body)
        assert (answer.status_code, "X-Error-Code" in answer.headers) == (400, False), body
        assert answer.json()["error"].startswith(f"{names}: "), body
    assert desk.names("pending") == ["ada"]


def test_body_that_is_no_object_is_refused(desk: Any) -> None:
    for what in ("handle", "grant", "batch"):
        for content in (b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 5000, b"null", b"1"):
            answer = desk.post(what, content)
            assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/json"), content


@pytest.mark.parametrize(("namer", "value"), [("user", "ADA"), ("userId", None), ("requestId", None)])
def test_person_is_named_in_three_ways(desk: Any, stand: Any, namer: str, value: str | None) -> None:
    stand("pending")
    item = desk.list("pending").json()[0]
    value = value or {"userId": item["user"]["_id"], "requestId": item["requestId"]}[namer]
    assert handle(desk, "accepted", **{namer: value}).status_code == 200
    assert desk.names("accepted") == ["ada"]


@pytest.mark.parametrize("number", ["0", "grant-1", "x", "9" * 40])
def test_unknown_ids_are_not_found(desk: Any, stand: Any, number: str) -> None:
    stand("pending")
    assert handle(desk, "accepted", requestId=number).json()["error"].startswith(NO_REQUEST)
    assert handle(desk, "accepted", userId=number).json()["error"].startswith("User not found")


def test_id_of_an_older_request_does_not_decide_about_a_newer_one(desk: Any, stand: Any, submit: Any) -> None:
    old = stand("rejected")
    submit(desk.ada, desk.model)
    assert handle(desk, "accepted", requestId=str(old.pk)).status_code == 404
    assert desk.names("pending") == ["ada"]


def test_nobody_decides_about_their_own(desk: Any, submit: Any) -> None:
    submit(desk.rita, desk.model)
    for status in ("accepted", "rejected", "reset"):
        answer = handle(desk, status, user="rita")
        assert (answer.status_code, "X-Error-Code" in answer.headers) == (403, False)
        assert "You cannot decide about your own request" in answer.json()["error"]
    assert desk.names("pending") == ["rita"]


def test_appeal_is_decided_by_another_reviewer(desk: Any, stand: Any) -> None:
    appeal_request(request=stand("rejected"), applicant=desk.ada, words="Look again.")
    assert "another reviewer must decide the appeal" in handle(desk, "accepted").json()["error"]
    body = {"user": "ada", "status": "accepted"}
    assert desk.post("handle", body, who="olga").status_code == 200


def test_question_that_waits_for_the_applicant_can_be_decided(desk: Any, stand: Any) -> None:
    stand("changes_requested")
    assert desk.names("pending") == ["ada"]
    assert handle(desk, "accepted").status_code == 200
    assert desk.names("accepted") == ["ada"]


def test_model_without_gate_takes_no_decision(desk: Any, stand: Any) -> None:
    stand("pending")
    desk.model.gate = Gate.NONE
    desk.model.save()
    bodies = {
        "handle": {"user": "ada", "status": "accepted"},
        "grant": {"user": "sam"},
        "batch": {"status": "accepted", "requests": [{"user": "ada"}]},
    }
    for what, body in bodies.items():
        answer = desk.post(what, body)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (400, "RepoNotGated")


def test_switching_the_gate_to_auto_leaves_waiting_ones_waiting(desk: Any, stand: Any) -> None:
    stand("pending")
    desk.model.gate = Gate.AUTO
    desk.model.save()
    assert desk.names("pending") == ["ada"]
    assert handle(desk, "accepted").status_code == 200


# -- grant ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["nowhere", "pending", "rejected", "reset"])
def test_grant_gives_access_wherever_the_person_stands(desk: Any, stand: Any, where: str) -> None:
    before = None
    if where != "nowhere":
        stand(where)
        before = desk.list(where).json()[0]
    who = "rita" if before else "olga"  # without a request only an owner gives access
    answer = desk.post("grant", {"user": "ada"}, who=who)
    assert (answer.status_code, answer.json()) == (200, {})
    item = desk.list("accepted").json()[0]
    assert item["grantedBy"]["user"] == who
    assert item["user"].get("email") == ("ada@example.org" if before else None)
    if before:
        assert item["timestamp"] == before["timestamp"]
    again = desk.post("grant", {"userId": str(desk.ada.pk)}, who="olga")
    assert (again.status_code, "X-Error-Code" in again.headers) == (400, False)
    assert again.json()["error"].startswith(
        "That user already has access to the repo. ada may read ai/tulu until "
    )
    assert "ada@" not in again.json()["error"]


def test_grant_without_a_request_is_refused_to_a_reviewer(desk: Any) -> None:
    answer = desk.post("grant", {"user": "ada"})
    assert answer.status_code == 403
    assert "Only an owner of the model can give access without a request." in answer.json()["error"]
    assert not Grant.objects.exists()


def test_grant_to_nobody_and_without_a_name(desk: Any) -> None:
    assert desk.post("grant", {"user": "nobody-here"}).status_code == 404
    assert desk.post("grant", {"requestId": "1"}).json()["error"].startswith("user or userId: ")
    assert desk.post("grant", {}).status_code == 400
    assert not Grant.objects.exists()


def test_owner_may_grant_themselves_access_and_a_reviewer_may_not(desk: Any) -> None:
    assert desk.post("grant", {"user": "olga"}, who="olga").status_code == 200
    assert desk.post("grant", {"user": "rita"}).status_code == 403
    assert desk.names("accepted") == ["olga"]


def test_grant_of_a_disabled_account_is_refused_in_words(desk: Any) -> None:
    desk.ada.is_active = False
    desk.ada.save()
    answer = desk.post("grant", {"user": "ada"}, who="olga")
    assert answer.status_code == 409
    assert "disabled" in answer.json()["error"]


# -- batch ----------------------------------------------------------------------------------------------


def batch(desk: Any, status: str, *people: dict[str, Any], **body: Any) -> Any:
    return desk.post("batch", {"status": status, "requests": list(people), **body})


def test_batch_answers_for_each_in_the_order_given(desk: Any, submit: Any, stand: Any) -> None:
    assign_role(model=desk.model, user=desk.sam, role="reviewer")
    stand("accepted")
    own, other = submit(desk.rita, desk.model), submit(desk.sam, desk.model)
    answer = batch(
        desk, "accepted",
        {"user": "nobody-here"}, {"requestId": str(other.pk)}, {"user": "ada"}, {"user": "rita"},
        {"user": "olga"}, {"userId": str(desk.sam.pk)}, {"requestId": "0"},
    )  # fmt: skip
    assert answer.status_code == 200
    told = [{name: item[name] for name in item if name != "message"} for item in answer.json()]
    assert told == [
        {"user": "nobody-here", "ok": False, "error": "user_not_found"},
        {"requestId": str(other.pk), "ok": True},
        {"user": "ada", "ok": True},
        {"user": "rita", "ok": False, "error": "not_allowed"},
        {"user": "olga", "ok": False, "error": "request_not_found"},
        {"userId": str(desk.sam.pk), "ok": True},
        {"requestId": "0", "ok": False, "error": "request_not_found"},
    ]
    own.refresh_from_db()
    assert own.is_open
    assert sorted(desk.names("accepted")) == ["ada", "sam"]
    assert Decision.objects.filter(request=other).count() == 1


def test_batch_rejects_with_one_reason_and_takes_it_from_everybody(
    desk: Any, submit: Any, stand: Any
) -> None:
    stand("pending")
    submit(desk.sam, desk.model)
    answer = batch(desk, "rejected", {"user": "ada"}, {"user": "sam"})
    assert (answer.status_code, desk.names("rejected")) == (400, [])
    answer = batch(desk, "rejected", {"user": "ada"}, {"user": "sam"}, rejectionReason="The round is over.")
    assert [item["ok"] for item in answer.json()] == [True, True]
    assert set(Decision.objects.values_list("words", flat=True)) == {"The round is over."}


def test_batch_of_nothing_or_nonsense_is_refused_whole(desk: Any, stand: Any) -> None:
    stand("pending")
    two_names = {"user": "ada", "userId": "1"}
    for requests in (None, [], "ada", [7], [{}], [two_names], [{"user": ""}], [{"user": "ada"}] * 101):
        answer = desk.post("batch", {"status": "accepted", "requests": requests})
        assert answer.status_code == 400, requests
    assert desk.names("pending") == ["ada"]


def test_decision_of_the_admin_is_told_to_the_script_that_comes_after(desk: Any, stand: Any) -> None:
    request = stand("pending")
    record_decision(request=request, reviewer=desk.olga, outcome="approved")
    answer = handle(desk, "accepted")
    assert "was already decided: approved by olga on 20" in answer.json()["error"]
    assert AccessRequest.objects.get().decisions.count() == 1
