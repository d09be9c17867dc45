"""`PUT /api/models/{id}/settings` is for owners with a token for their role."""

from __future__ import annotations

import json
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.model_ops.hub.conftest import Answer, Portal

REPO = "maker/knobs"
PATH = f"/api/models/{REPO}/settings"


@pytest.fixture(scope="module")
def knobs(portal: Portal) -> Portal:
    portal.order("model", repo_id=REPO)
    for state in ("owner", "decider", "granted"):
        made = portal.order("person", name=f"knobs-{state}", repo_id=REPO, state=state)
        portal.tokens[f"knobs-{state}"] = made["token"]
    return portal


def put(portal: Portal, body: Any, who: str = "knobs-owner") -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return portal.ask("PUT", PATH, token=portal.tokens[who], body=content, content_type="application/json")


def state(portal: Portal) -> tuple[Any, Any]:
    info = portal.get(f"/api/models/{REPO}", "knobs-owner").json
    return info["gated"], info["private"]


def test_owner_sets_gate_and_visibility_and_gets_back_what_was_sent(knobs: Portal) -> None:
    steps: list[tuple[dict[str, Any], tuple[Any, Any]]] = [
        ({"gated": "auto"}, ("auto", False)),
        ({"gated": False}, (False, False)),
        ({"visibility": "private"}, (False, True)),
        ({"gated": "manual", "private": False}, ("manual", False)),
        ({"private": True}, ("manual", True)),
        ({}, ("manual", True)),
        ({"visibility": "public", "private": False}, ("manual", False)),
    ]
    for sent, after in steps:
        answer = put(knobs, sent)
        assert (answer.status, answer.json) == (200, sent)
        assert state(knobs) == after
    events = [event for event in knobs.order("events", repo_id=REPO) if event[0] == "model.settings_changed"]
    assert [(actor, data["gate"], data["listed"]) for _, actor, data in events] == [
        ("knobs-owner", "auto", True),
        ("knobs-owner", "none", True),
        ("knobs-owner", "none", False),
        ("knobs-owner", "manual", True),
        ("knobs-owner", "manual", False),
        ("knobs-owner", "manual", True),
    ]


def test_client_changes_settings_and_reads_why_it_may_not(knobs: Portal) -> None:
    HfApi(knobs.url, token=knobs.tokens["knobs-owner"]).update_repo_settings(REPO, gated="auto")
    assert state(knobs)[0] == "auto"
    HfApi(knobs.url, token=knobs.tokens["knobs-owner"]).update_repo_settings(REPO, gated="manual")
    with pytest.raises(HfHubHTTPError, match=r"make one of the kind 'reviewer' at .*/me/tokens"):
        HfApi(knobs.url, token=knobs.tokens["knobs-granted"]).update_repo_settings(REPO, gated=False)
    assert state(knobs)[0] == "manual"


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [
        ("anonymous", 401, "InvalidToken"),
        ("unknown", 401, "InvalidToken"),
        ("stranger", 403, "NotAllowed"),
        ("knobs-granted", 403, "NotAllowed"),
        ("knobs-decider", 403, "NotAllowed"),
        ("owner", 403, "NotAllowed"),  # of another model
    ],
)
def test_nobody_else_changes_anything(knobs: Portal, who: str, status: int, code: str) -> None:
    before = state(knobs)
    answer = put(knobs, {"gated": False, "visibility": "private"}, who)
    assert (answer.status, answer.headers["x-error-code"]) == (status, code)
    assert state(knobs) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"gated"',
        b"{" * 5000,
        b'{"gated": "auto"',
        b"\xff\xfe",
        b'{"gated": null}',
        b'{"gated": true}',
        b'{"gated": 0}',
        b'{"gated": "Auto"}',
        b'{"gated": ["auto"]}',
        b'{"gated": {"auto": 1}}',
        b'{"private": "true"}',
        b'{"private": 1}',
        b'{"visibility": "protected"}',
        b'{"visibility": "public", "private": true}',
        b'{"gated": "auto", "delete": true}',
        b'{"gated": "a\\u0000uto"}',
    ],
)
def test_what_cannot_be_set_is_a_bad_request_and_changes_nothing(knobs: Portal, body: bytes) -> None:
    before = state(knobs)
    answer = put(knobs, body)
    assert (answer.status, answer.headers["x-error-code"]) == (400, "BadRequest")
    assert answer.json["error"] == answer.headers["x-error-message"]
    assert state(knobs) == before


def test_settings_are_not_read_by_get(knobs: Portal) -> None:
    answer = knobs.get(PATH, "knobs-owner")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "NotServed")
