"""PostgreSQL stops, starts and freezes under a live portal."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from portal.embedded.postgres import Postgres
from tests.model_ops.hub.conftest import Portal
from tests.portal.database.conftest import MODEL, SLEEPING, slowed
from tests.portal.database.test_unavailable import FILE, assert_is_page
from tests.waiting import wait_until

AWAY = "The portal&#x27;s database is not answering right now."
FORM = {"body": b"client_id=x", "Content_Type": "application/x-www-form-urlencoded"}


@contextmanager
def stopped(server: Postgres) -> Generator[None]:
    """Stop the test run's own server, as in a long restart."""
    server.stop()
    try:
        yield
    finally:
        server.start()
        server.wait_ready()


@contextmanager
def frozen(server: Postgres) -> Generator[None]:
    """Freeze the server and its processes: sockets accept what is sent, and no reply comes back."""
    pids = server._running_servers()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def test_pages_say_so_and_clients_wait_until_it_is_back(impatient: Portal, postgres_server: Postgres) -> None:
    assert impatient.get("/").status == 200
    with ThreadPoolExecutor(5) as asking:
        with stopped(postgres_server):
            clients = [
                asking.submit(impatient.get, FILE, "granted"),
                asking.submit(impatient.head, FILE, "granted"),
                asking.submit(impatient.get, f"/api/models/{MODEL}"),
            ]
            page = asking.submit(impatient.get, "/", Cookie="gatehouse_session=" + "a" * 32)
            device = asking.submit(impatient.ask, "POST", "/oauth/device", **FORM)
            assert_is_page(page.result(), AWAY, 5)
            answer = device.result()
            wait_until(lambda: impatient.get("/healthz").json["database"] is False)
            assert not any(one.done() for one in clients)
        assert [one.result().status for one in clients] == [307, 307, 200]
    assert (answer.status, answer.headers["x-error-code"], answer.headers["retry-after"]) == (
        503,
        "DatabaseAway",
        "5",
    )
    assert answer.json["error"] == "temporarily_unavailable"
    assert impatient.get("/").status == 200
    wait_until(lambda: impatient.get("/healthz").json["database"] is True)


def test_form_that_met_it_says_to_look_first(impatient: Portal, postgres_server: Postgres) -> None:
    form = {"body": b"login=a@example.org&password=b", "Content_Type": "application/x-www-form-urlencoded"}
    cookies = {"Cookie": "gatehouse_csrf=" + "a" * 32, "X_CSRFToken": "a" * 32, "Referer": impatient.url}
    with stopped(postgres_server):
        answer = impatient.ask("POST", "/accounts/login/", **form, **cookies)
    assert_is_page(answer, AWAY, 5)
    assert "check whether it arrived: it was saved completely or not at all." in answer.text


def test_server_that_stands_still_is_not_waited_for(impatient: Portal, postgres_server: Postgres) -> None:
    assert impatient.get("/").status == 200  # its connection is kept in the pool
    with frozen(postgres_server):
        assert_is_page(impatient.get("/"), AWAY, 5)
        wait_until(lambda: impatient.get("/healthz").json["database"] is False)
    assert impatient.get("/").status == 200


def test_statement_on_a_server_that_stands_still_is_given_up(
    impatient: Portal, owner: Any, postgres_server: Postgres
) -> None:
    """The server should end the statement after two seconds but cannot."""
    with ThreadPoolExecutor(1) as asking, slowed(owner, "access_requests_gatedmodel"):
        page = asking.submit(impatient.get, "/")
        wait_until(lambda: owner.execute(SLEEPING).fetchall() != [])
        with frozen(postgres_server):
            assert_is_page(page.result(), AWAY, 5)


@pytest.mark.slow
def test_clients_are_answered_where_it_stays_away(impatient: Portal, postgres_server: Postgres) -> None:
    """Every client gets an answer after waiting half a minute."""
    with stopped(postgres_server), ThreadPoolExecutor(4) as asking:
        asked = [
            asking.submit(impatient.get, FILE, "granted", User_Agent="unknown/None; hf_hub/2.4.0"),
            asking.submit(impatient.get, FILE, "granted", User_Agent="unknown/None; hf_hub/0.36.2"),
            asking.submit(impatient.head, FILE, "granted"),
            asking.submit(impatient.get, f"/api/models/{MODEL}"),
        ]
        answers = [one.result() for one in asked]
    assert [answer.status for answer in answers] == [429, 503, 503, 503]
    assert {answer.headers["x-error-code"] for answer in answers} == {"DatabaseAway"}
    assert {answer.headers["retry-after"] for answer in answers} == {"5"}
