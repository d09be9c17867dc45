"""Calls of huggingface_hub against a live portal."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError

from tests.model_ops.hub.conftest import Portal

REPO = "maker/asked"


@pytest.fixture(scope="module")
def asked(portal: Portal) -> Portal:
    portal.order("model", repo_id=REPO)
    for state in ("owner", "decider", "pending", "granted", "rejected", "expired", "withdrawn", "stranger"):
        made = portal.order("person", name=f"asked-{state.replace('_', '-')}", repo_id=REPO, state=state)
        portal.tokens[f"asked-{state}"] = made["token"]
    return portal


@pytest.fixture
def api(asked: Portal) -> HfApi:
    return HfApi(endpoint=asked.url, token=asked.tokens["asked-decider"])


def names(requests: Any) -> set[str]:
    return {request.username for request in requests}


def place_of(api: HfApi, name: str) -> list[str]:
    lists = (
        api.list_pending_access_requests,
        api.list_accepted_access_requests,
        api.list_rejected_access_requests,
    )
    return [request.status for each in lists for request in each(REPO) if request.username == name]


def test_reviewer_works_through_the_lists(api: HfApi) -> None:
    (pending,) = [one for one in api.list_pending_access_requests(REPO) if one.username == "asked-pending"]
    assert (pending.status, pending.email, pending.fields) == (
        "pending", "asked-pending@example.org", {"Why": "To test."}
    )  # fmt: skip
    assert pending.timestamp.tzinfo is not None
    api.accept_access_request(REPO, pending.username)
    assert place_of(api, "asked-pending") == ["accepted"]
    api.cancel_access_request(REPO, request_id=pending.request_id)
    assert place_of(api, "asked-pending") == ["pending"]
    api.reject_access_request(REPO, "asked-pending", rejection_reason="Which data?")
    assert place_of(api, "asked-pending") == ["rejected"]
    api.accept_access_request(REPO, request_id=pending.request_id)
    assert place_of(api, "asked-pending") == ["accepted"]


def test_access_that_nobody_asked_for_is_given_by_an_owner_and_taken_back(asked: Portal, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="Only an owner of the model can give access without a request"):
        api.grant_access(REPO, "asked-stranger")
    owner = HfApi(endpoint=asked.url, token=asked.tokens["asked-owner"])
    assert owner.grant_access(REPO, "asked-stranger") == {}
    (given,) = [one for one in api.list_accepted_access_requests(REPO) if one.username == "asked-stranger"]
    assert (given.email, given.fields) == (None, None)
    with pytest.raises(BadRequestError, match="That user already has access"):
        api.grant_access(REPO, "asked-stranger")
    with pytest.raises(HfHubHTTPError, match="No access request found matching your criteria"):
        api.accept_access_request(REPO, "asked-stranger")
    api.cancel_access_request(REPO, request_id=given.request_id)
    api.reject_access_request(REPO, request_id=given.request_id, rejection_reason="No.")
    with pytest.raises(HfHubHTTPError, match="asked-stranger is rejected for maker/asked already"):
        api.reject_access_request(REPO, "asked-stranger", rejection_reason="No.")
    api.cancel_access_request(REPO, "asked-stranger")
    with pytest.raises(HfHubHTTPError) as refused:
        api.cancel_access_request(REPO, "asked-stranger")
    assert refused.value.response.status_code == 404


def test_rejection_without_words_says_what_is_wanted(api: HfApi) -> None:
    with pytest.raises(BadRequestError, match="rejectionReason: write a message to the applicant"):
        api.reject_access_request(REPO, "asked-granted", rejection_reason=None)
    assert place_of(api, "asked-granted") == ["accepted"]


def test_taken_access_ends_downloads_at_once(asked: Portal, api: HfApi) -> None:
    path = f"/api/models/{REPO}/auth-check"
    assert asked.get(path, "asked-granted").status == 200
    api.cancel_access_request(REPO, "asked-granted")
    answer = asked.get(path, "asked-granted")
    assert (answer.status, answer.headers["x-error-code"]) == (403, "GatedRepo")
    assert "awaiting a review" in answer.headers["x-error-message"]
    body = b'{"user": "asked-granted", "status": "reset", "resetReason": "Ask again."}'
    handle = f"/api/models/{REPO}/user-access-request/handle"
    assert asked.ask("POST", handle, token=asked.tokens["asked-decider"], body=body).status == 200
    assert "has been reset" in asked.get(path, "asked-granted").headers["x-error-message"]


@pytest.mark.parametrize("who", ["anonymous", "asked-granted", "asked-stranger", "stranger"])
def test_others_are_refused_with_a_sentence(asked: Portal, who: str) -> None:
    api = HfApi(endpoint=asked.url, token=asked.tokens[who] or False)
    with pytest.raises(HfHubHTTPError) as refused:
        list(api.list_pending_access_requests(REPO))
    opening = (
        "Invalid username or password." if who == "anonymous" else "You have read access but not the required"
    )
    assert opening in str(refused.value)
    assert refused.value.response.status_code == (401 if who == "anonymous" else 403)


def test_lists_of_an_unknown_model_are_not_found(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        list(api.list_pending_access_requests("maker/nothing"))


def test_asking_over_http_leads_to_the_page_on_the_callers_address(asked: Portal) -> None:
    asked.order("model", repo_id="maker/free", licences=[])
    asker = asked.order("person", name="asker", repo_id=REPO, state="decider")["token"]
    answer = asked.ask(
        "POST",
        "/maker/free/ask-access",
        token=asker,
        body=b'{"Why": "To test."}',
        content_type="application/json",
    )
    assert (answer.status, answer.headers["location"]) == (303, f"{asked.url}/maker/free")
    assert asked.ask("GET", "/maker/free", token=asker).status == 200
    cancelled = asked.ask("POST", "/api/models/maker/free/user-access-request/cancel", token=asker)
    assert (cancelled.status, cancelled.json) == (200, {"ok": True})


def test_report_arrives_as_a_file(asked: Portal) -> None:
    answer = asked.get(f"/{REPO}/user-access-report", "asked-owner")
    assert answer.headers["content-disposition"] == "attachment; filename=user-access-report-maker-asked.json"
    found = {item["user"]: item["status"] for item in answer.json}
    assert found["asked-expired"] == "reset"
    assert "asked-withdrawn" not in found


def test_two_reviewers_approve(asked: Portal, api: HfApi) -> None:
    repo = "maker/two"
    asked.order("model", repo_id=repo)
    people = {
        "two-owner": "owner",
        "two-reviewer": "decider",
        "two-asks": "pending",
        "two-asks-too": "pending",
    }
    tokens = {
        name: asked.order("person", name=name, repo_id=repo, state=state)["token"]
        for name, state in people.items()
    }
    asked.order("approvals", repo_id=repo, number=2)
    owner, reviewer = (
        HfApi(endpoint=asked.url, token=tokens[name]) for name in ("two-owner", "two-reviewer")
    )

    def waiting() -> set[str]:
        return names(owner.list_pending_access_requests(repo))

    reviewer.accept_access_request(repo, "two-asks")
    assert waiting() == {"two-asks", "two-asks-too"}
    with pytest.raises(HfHubHTTPError, match="No access request found matching your criteria") as refused:
        reviewer.accept_access_request(repo, "two-asks")
    assert refused.value.response.status_code == 404
    body = b'{"requests": [{"user": "two-asks"}], "status": "accepted"}'
    batch = asked.ask(
        "POST", f"/api/models/{repo}/user-access-request/batch", token=tokens["two-reviewer"], body=body
    )
    assert (batch.status, [one["ok"] for one in batch.json]) == (200, [True])
    assert waiting() == {"two-asks", "two-asks-too"}
    owner.grant_access(repo, "two-asks")  # a vote, since there is an open request
    assert waiting() == {"two-asks-too"}
    assert names(owner.list_accepted_access_requests(repo)) == {"two-asks"}
    reviewer.accept_access_request(repo, "two-asks-too")
    owner.reject_access_request(repo, "two-asks-too", rejection_reason="No.")
    assert names(owner.list_rejected_access_requests(repo)) == {"two-asks-too"}


def test_an_auditor_decides_nothing(asked: Portal) -> None:
    repo = "maker/audited"
    asked.order("model", repo_id=repo)
    asked.order("person", name="audited-asks", repo_id=repo, state="pending")
    token = asked.order("person", name="audited-auditor", repo_id=repo, state="auditor")["token"]
    auditor = HfApi(endpoint=asked.url, token=token)
    for call in (
        lambda: auditor.accept_access_request(repo, "audited-asks"),
        lambda: list(auditor.list_pending_access_requests(repo)),
        lambda: auditor.grant_access(repo, "audited-asks"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            call()
        assert refused.value.response.status_code == 403
    assert auditor.whoami()["orgs"] == []
    assert asked.ask("GET", f"/{repo}/resolve/main/model.safetensors", token=token).status == 403
