"""The four lists and the report, as recorded from the Hub."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.enums import Gate
from access_requests.models import AccessRequest, Grant
from access_requests.services.requests.submit import appeal_request, start_request, withdraw_request
from tests.conftest import TULU_ANSWERS

pytestmark = pytest.mark.django_db

PLACES = ("pending", "accepted", "rejected", "reset")
MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
REPORT = "/ai/tulu/user-access-report"


@pytest.mark.parametrize("where", ["pending", "accepted", "granted", "rejected", "reset"])
def test_item_has_the_hubs_fields_and_is_in_one_list(desk: Any, stand: Any, where: str) -> None:
    stand(where)
    place = {"granted": "accepted"}.get(where, where)
    assert {name: len(desk.list(name).json()) for name in PLACES} == {
        name: int(name == place) for name in PLACES
    }
    answer = desk.list(place)
    assert (answer.status_code, "Link" in answer.headers) == (200, False)
    item = answer.json()[0]
    person = {
        "_id": str(desk.ada.pk), "avatarUrl": "", "isPro": False, "type": "user", "verifiedOrgNames": [],
        "fullname": "Ada X", "user": "ada", "email": "ada@example.org",
    }  # fmt: skip
    if where == "granted":
        del person["email"]
    assert item["user"] == person
    assert item["status"] == place
    assert MOMENT.fullmatch(item["timestamp"])
    assert ("reviewedAt" in item) == (where != "pending")
    assert item.get("grantedBy") == ({"fullname": "Rita X", "user": "rita"} if where == "accepted" else None)
    if where == "granted":
        assert item["requestId"] == f"grant-{Grant.objects.get().pk}"
        assert "fields" not in item
    else:
        assert item["requestId"] == str(AccessRequest.objects.get().pk)
        assert item["fields"]["Institution"] == "Analytical Society"
    assert "Words." not in answer.content.decode()


def test_fields_are_told_by_label_in_plain_values(desk: Any, submit: Any) -> None:
    submit(desk.ada, desk.model, answers={**TULU_ANSWERS, "f6": ["10.1000/x1", "arXiv:2306.04751"]})
    fields = desk.list("pending").json()[0]["fields"]
    assert fields == {
        "First Name": "Ada", "Last Name": "Lovelace", "Institution": "Analytical Society",
        "Country (where user is located)": "GB", "Intended Use": "Study of instruction following.",
        "Previous Related Publications": "10.1000/x1\narXiv:2306.04751",
        "I agree to abide by the terms of the license associated to this artifact, "
        "including domain and used-based restrictions": True,
    }  # fmt: skip


def test_appeal_is_pending_with_its_words(desk: Any, stand: Any) -> None:
    appeal_request(request=stand("rejected"), applicant=desk.ada, words="Look again.")
    item = desk.list("pending").json()[0]
    assert (item["state"], item["appeal"], item["status"]) == ("appealed", "Look again.", "pending")


def test_drafts_and_withdrawn_are_nowhere(desk: Any, submit: Any) -> None:
    start_request(model=desk.model, applicant=desk.ada)
    withdraw_request(request=submit(desk.sam, desk.model), applicant=desk.sam)
    for path in ("pending", "accepted", "rejected", "reset"):
        assert desk.list(path).json() == []
    assert desk.api("rita", "GET", REPORT).json() == []


def test_expired_access_is_reset_at_its_end(desk: Any, stand: Any) -> None:
    stand("accepted")
    end = timezone.now() - timedelta(days=1)
    Grant.objects.update(starts_at=end - timedelta(days=9), ends_at=end)
    item = desk.list("reset").json()[0]
    assert item["reviewedAt"] == end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert "grantedBy" not in item


def test_pages_follow_each_other_also_while_entries_leave(desk: Any, submit: Any, make_person: Any) -> None:
    """A script may accept every request it reads, page by page."""
    names = [f"p{number:02}" for number in range(25)]
    for name in names:
        submit(make_person(name), desk.model)
    seen, address = [], "/api/models/ai/tulu/user-access-request/pending?limit=10"
    while address:
        answer = desk.api("rita", "GET", address)
        page = [item["user"]["user"] for item in answer.json()]
        for name in page[:7]:
            assert desk.post("handle", {"user": name, "status": "accepted"}).status_code == 200
        seen += page
        found = re.fullmatch(
            r'<(http://testserver/api/models/[^>]+)>; rel="next"', answer.headers.get("Link", "")
        )
        address = found[1].removeprefix("http://testserver") if found else ""
    assert seen == names


def test_list_is_searched_by_the_beginning_of_the_user_name_and_bounded_by_time(
    desk: Any, submit: Any, make_person: Any
) -> None:
    for name in ("TestingB", "tester", "contest"):
        submit(make_person(name, first_name="Test"), desk.model)
    assert desk.names("pending", "?q=testIN") == ["TestingB"]
    assert desk.names("pending", "?q=test") == ["TestingB", "tester"]
    assert desk.names("pending", "?q=%25") == []
    second = (
        AccessRequest.objects.get(applicant__username="tester")
        .submitted_at.isoformat()
        .replace("+00:00", "Z")
    )
    assert desk.names("pending", f"?after={second}") == ["contest"]
    assert desk.names("pending", f"?before={second}&limit=10") == ["TestingB"]
    assert desk.names("pending", "?after=2020-01-01&before=2020-01-02") == []


BAD_QUERIES = [
    ("limit=5", "limit"), ("limit=9", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
    ("limit=-10", "limit"), ("limit=%D9%A1%D9%A1", "limit"), ("q=%00", "q"), ("q=" + "a" * 251, "q"),
    ("after=yesterday", "after"), ("before=2020-13-01", "before"), ("cursor=x", "cursor"),
    ("cursor=x~1", "cursor"), ("cursor=2020-01-01~" + "9" * 30, "cursor"),
]  # fmt: skip


def test_bad_query_is_refused_by_its_name(desk: Any) -> None:
    for query, field in BAD_QUERIES:
        answer = desk.list("pending", f"?{query}")
        assert answer.status_code == 400, query
        assert answer.headers["X-Error-Message"].startswith(f"{field}: "), query


def test_list_of_many_costs_as_many_queries_as_of_one(desk: Any, submit: Any, make_person: Any) -> None:
    counts = []
    for number in range(3):
        submit(make_person(f"p{number}"), desk.model)
        desk.list("pending")
        with CaptureQueriesContext(connection) as asked:
            desk.list("pending")
        counts.append(len(asked))
    assert counts == [counts[0]] * 3


def test_report_is_a_file_of_everybody(desk: Any, stand: Any, submit: Any) -> None:
    stand("accepted")
    submit(desk.sam, desk.model)
    answer = desk.api("olga", "GET", REPORT)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == "attachment; filename=user-access-report-ai-tulu.json"
    first, second = json.loads(answer.content)
    assert list(first) == ["fullname", "user", "email", "time", "reviewedAt", "status", "grantedBy"]
    assert (first["user"], first["status"], first["grantedBy"]["user"]) == ("ada", "accepted", "rita")
    assert list(second) == ["fullname", "user", "email", "time", "status"]


def test_lists_of_a_model_that_lost_its_gate_stay_readable(desk: Any, stand: Any) -> None:
    stand("pending")
    desk.model.gate = Gate.NONE
    desk.model.save()
    assert desk.names("pending") == ["ada"]
    assert desk.api("rita", "GET", REPORT).status_code == 200


# -- who may ----------------------------------------------------------------------------------------------

ROUTES = [
    *(("GET", f"/api/models/ai/tulu/user-access-request/{place}", None) for place in PLACES),
    ("GET", REPORT, None),
    ("POST", "/api/models/ai/tulu/user-access-request/handle", {"user": "ada", "status": "rejected", "rejectionReason": "No."}),
    ("POST", "/api/models/ai/tulu/user-access-request/grant", {"user": "ada"}),
    ("POST", "/api/models/ai/tulu/user-access-request/batch", {"requests": [{"user": "ada"}], "status": "accepted"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_only_a_reviewer_token_of_a_reviewer_opens_the_reviewers_routes(
    desk: Any, stand: Any, method: str, path: str, body: Any
) -> None:
    stand("pending")
    for who in ("nobody", "unknown"):
        answer = desk.api(who, method, path, body)
        assert (answer.status_code, "X-Error-Code" in answer.headers) == (401, False)
        assert answer.headers["X-Error-Message"].startswith("Invalid username or password.")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for who in ("ada", "sam", "sam's reviewer", "rita's own", "olga's own"):
        answer = desk.api(who, method, path, body)
        message = answer.headers["X-Error-Message"]
        assert (answer.status_code, "X-Error-Code" in answer.headers) == (403, False)
        assert message.startswith(
            "You have read access but not the required permissions for this operation. "
        )
        assert ("/me/tokens" in message) == (who != "sam's reviewer")
        assert (answer.json()["error"] if path.startswith("/api/") else answer.content.decode()) == message
    assert AccessRequest.objects.get().state == "submitted"
    assert desk.api("olga", method, path, body).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_unknown_and_hidden_models_are_not_found(desk: Any, method: str, path: str, body: Any) -> None:
    desk.model.listed = False
    desk.model.save()
    for who, name in (("sam's reviewer", "tulu"), ("rita", "nothing"), ("nobody", "tulu")):
        answer = desk.api(who, method, path.replace("ai/tulu", f"ai/{name}"), body)
        assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RepoNotFound")
    assert desk.api("olga", method, path, body).status_code in {200, 404}


def test_reviewer_whose_role_was_taken_decides_no_more(desk: Any, stand: Any) -> None:
    stand("pending")
    desk.model.roles.filter(user=desk.rita).delete()
    assert desk.list("pending").status_code == 403
    assert desk.post("handle", {"user": "ada", "status": "accepted"}).status_code == 403
