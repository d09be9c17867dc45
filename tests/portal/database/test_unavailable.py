"""What a live portal answers while statements wait: pages, files, JSON, and what needs no connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from portal.database import budget
from tests.model_ops.hub.conftest import Answer, Portal
from tests.model_ops.hub.ways import beside
from tests.portal.database.conftest import MODEL, SLEEPING, locked, slowed
from tests.waiting import wait_until

CHAIN_LOCK = 0x6761746568  # as in access_requests/migrations/0012_event_log_chain.py
CLIENT = "unknown/None; hf_hub/{version}; python/3.11.7"
FILE = f"/{MODEL}/resolve/main/a.txt"
INFO = f"/api/models/{MODEL}"


def assert_is_page(answer: Answer, sentence: str, seconds: int) -> None:
    """Check that the answer is a page with this sentence that is not cached and says when to retry."""
    assert (answer.status, answer.headers["retry-after"]) == (503, str(seconds))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert sentence in answer.text
    assert "set-cookie" not in answer.headers


def test_page_that_waits_for_a_lock_says_so(impatient: Portal, owner: Any) -> None:
    with locked(owner, "access_requests_gatedmodel"):
        answer = impatient.get("/?q=tulu")
    assert_is_page(answer, "Someone else is changing the same thing right now. Nothing was changed.", 5)
    assert '<a class="button" href="/?q=tulu">Try again</a>' in answer.text
    assert impatient.get("/").status == 200


def test_session_that_cannot_be_read_is_the_same_page(impatient: Portal, owner: Any) -> None:
    """The person is looked up by middlewares and by the page's own navigation."""
    with locked(owner, "django_session"):
        answer = impatient.get("/", Cookie="gatehouse_session=" + "a" * 32)
    assert_is_page(answer, "Someone else is changing the same thing right now. Nothing was changed.", 5)


def test_page_that_takes_too_long_is_stopped(impatient: Portal, owner: Any) -> None:
    with slowed(owner, "access_requests_gatedmodel"):
        answer = impatient.get("/")
        assert owner.execute(SLEEPING).fetchall() == []
    assert_is_page(answer, "This took too long and was stopped. Nothing was changed.", 10)


@pytest.mark.parametrize(
    ("method", "path", "client", "status"),
    [
        ("GET", FILE, "2.4.0", 429),
        ("GET", FILE, "1.33.0", 429),
        ("GET", FILE, "0.36.2", 503),
        ("HEAD", FILE, "2.4.0", 503),
        ("HEAD", FILE, "1.33.0", 503),
        ("GET", INFO, "2.4.0", 503),
        ("GET", f"{INFO}/user-access-request/pending", "2.4.0", 503),
    ],
)
def test_client_is_answered_in_the_words_after_which_it_asks_again(
    impatient: Portal, owner: Any, method: str, path: str, client: str, status: int
) -> None:
    with locked(owner, "access_requests_gatedmodel"):
        answer = impatient.ask(
            method, path, token=impatient.tokens["decider"], User_Agent=CLIENT.format(version=client)
        )
    sentence = (
        "Someone else is changing the same thing right now. Nothing was changed. "
        "Try again in 5 s (Hugging Face clients do so by themselves)."
    )
    assert (answer.status, answer.headers["retry-after"]) == (status, "5")
    assert (answer.headers["x-error-code"], answer.headers["x-error-message"]) == ("Locked", sentence)
    assert answer.headers["vary"] == "Authorization"
    if method == "GET" and path.startswith("/api/"):
        assert answer.json == {"error": sentence}


def test_sign_in_of_a_client_is_answered_in_json(impatient: Portal, owner: Any) -> None:
    with locked(owner, "access_requests_devicecode"):
        answer = impatient.ask(
            "POST", "/oauth/device", body=b"client_id=x", Content_Type="application/x-www-form-urlencoded"
        )
    assert (answer.status, answer.headers["retry-after"], answer.headers["x-error-code"]) == (
        503,
        "5",
        "Locked",
    )
    assert answer.json["error"] == "temporarily_unavailable"


def test_decision_that_was_refused_left_nothing_and_can_be_made_again(impatient: Portal, owner: Any) -> None:
    """The decision waits for the log's lock in its commit, the last moment at which it can fail."""
    path, body = f"{INFO}/user-access-request/handle", b'{"user": "slow-pending", "status": "accepted"}'
    sent = {"token": impatient.tokens["decider"], "body": body, "Content_Type": "application/json"}
    before = impatient.order("events", repo_id=MODEL)
    with owner.transaction(force_rollback=True):
        owner.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
        answer = impatient.ask("POST", path, **sent)
    assert (answer.status, answer.headers["x-error-code"]) == (503, "Locked")
    assert impatient.order("events", repo_id=MODEL) == before
    assert impatient.ask("POST", path, **sent).status == 200


@pytest.fixture(scope="module")
def exhausted(stocked: Portal, owner_of: Callable[..., psycopg.Connection[Any]]) -> Generator[Portal]:
    """Return a portal whose connections all wait in a statement while clients fill the line."""
    connections = {"GATEHOUSE_DATABASE_CONNECTIONS": str(budget.FEWEST)}
    name = stocked.environment["DATABASE_URL"].rpartition("/")[2]
    ended, refused = threading.Event(), threading.Event()
    with (
        beside(stocked, GATEHOUSE_STATEMENT_SECONDS="600", **connections) as portal,
        owner_of(name) as owner,
        ThreadPoolExecutor(budget.LEAST + budget.WAITING + 1) as asking,
        slowed(owner, "access_requests_gatedmodel"),
    ):
        for _ in range(budget.LEAST):
            asking.submit(portal.get, "/")
        wait_until(lambda: len(owner.execute(SLEEPING).fetchall()) == budget.LEAST)
        for _ in range(budget.WAITING + 1):
            asking.submit(keep_asking, portal, ended, refused)
        refused.wait()
        yield portal
        ended.set()


def keep_asking(portal: Portal, ended: threading.Event, refused: threading.Event) -> None:
    """Keep joining the line; set `refused` once a request finds it full."""
    while not ended.wait(0.2):
        if portal.get(FILE, "granted").status == 429:
            refused.set()


def test_page_is_refused_while_no_connection_comes_free(exhausted: Portal) -> None:
    sentence = "Too many people are waiting for the portal&#x27;s database right now. Nothing was changed."
    assert_is_page(exhausted.get("/"), sentence, 5)


def test_clients_are_told_to_come_again(exhausted: Portal) -> None:
    newest, older = CLIENT.format(version="2.4.0"), CLIENT.format(version="0.36.2")
    answers = [exhausted.get(FILE, "granted", User_Agent=client) for client in (newest, older)]
    assert [(a.status, a.headers["retry-after"], a.headers["x-error-code"]) for a in answers] == [
        (429, "5", "Busy"),
        (503, "5", "Busy"),
    ]
    assert exhausted.head(FILE, "granted", User_Agent=newest).status == 503


def test_what_needs_no_connection_of_the_pool_answers(exhausted: Portal) -> None:
    assert exhausted.get("/healthz").json["database"] is True
    assert exhausted.get("/robots.txt").status == 200
    assert exhausted.get("/static/gatehouse.css").status == 200
