"""The download log of a live portal when the web server is killed during a transfer or the database is down."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from portal.embedded.programs import web_command
from tests.model_ops.hub.conftest import CHECKOUT, Portal
from tests.waiting import wait_until

REPO = "maker/killed"
SIZE = 40_000_000  # bytes: more than the socket buffers on both sides hold


@pytest.fixture(scope="session")
def path(portal: Portal) -> str:
    portal.order("model", repo_id=REPO)
    add = {"large.bin": base64.b64encode(os.urandom(1_000_000) * 40).decode(), "small.json": "e30="}
    return f"/{REPO}/resolve/{portal.order('commit', repo_id=REPO, add=add)['commit']}/"


@pytest.fixture(scope="session")
def token(portal: Portal, path: str) -> str:
    return str(portal.order("person", name="walter", repo_id=REPO, state="granted")["token"])


@pytest.fixture
def other_web(portal: Portal) -> Generator[tuple[int, subprocess.Popen[bytes]]]:
    """A second web server of the same portal that a test may kill: its port and process group."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        portal.log.with_name("other.log").open("w") as log,
    ):
        web = subprocess.Popen(
            web_command(listening.fileno(), scratch=portal.log.parent), cwd=CHECKOUT, env=portal.environment,
            stdout=log, stderr=log, pass_fds=[listening.fileno()], start_new_session=True,
        )  # fmt: skip
        try:
            yield listening.getsockname()[1], web
        finally:
            if web.poll() is None:
                os.killpg(web.pid, signal.SIGKILL)
            web.wait(60)


def ask(port: int, path: str, token: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    return connection, connection.getresponse()


def connected(portal: Portal) -> psycopg.Connection[tuple[Any, ...]]:
    folder, _, name = portal.environment["DATABASE_URL"].rpartition("/")
    return psycopg.connect(
        dbname=name, user="gatehouse_portal", host=folder.partition("@/")[2], autocommit=True
    )


def rows(portal: Portal, name: str) -> list[tuple[str, str, int | None, int | None]]:
    with connected(portal) as server:
        return server.execute(
            "SELECT d.state, d.mode, d.bytes_sent, d.grant_id FROM model_ops_download d"
            " JOIN access_requests_gatedmodel m ON m.id = d.model_id WHERE m.repo_id = %s AND d.path = %s ORDER BY d.id",
            (REPO, name),
        ).fetchall()


def journals(portal: Portal) -> Path:
    return Path(portal.environment["GATEHOUSE_STATE"]) / "downloads"


def test_web_server_killed_in_mid_transfer_leaves_one_cut_row(
    portal: Portal, path: str, token: str, other_web: tuple[int, subprocess.Popen[bytes]]
) -> None:
    port, web = other_web
    connection, response = ask(port, path + "large.bin", token)
    assert response.status == 200
    assert len(response.read(100_000)) == 100_000
    os.killpg(web.pid, signal.SIGKILL)
    web.wait(60)
    connection.close()

    def moved() -> bool:
        """Try to move the row, which fails while the kernel is still ending the killed processes."""
        portal.order("move_downloads")
        return [row[0] for row in rows(portal, "large.bin")] == ["cut"]

    wait_until(moved)
    ((_, mode, sent, grant),) = rows(portal, "large.bin")
    assert (mode, sent, grant is None) == ("own", None, False)
    portal.order("move_downloads")
    assert len(rows(portal, "large.bin")) == 1


def test_open_body_of_a_living_web_server_is_running_then_complete(
    portal: Portal, path: str, token: str, other_web: tuple[int, subprocess.Popen[bytes]]
) -> None:
    port, _ = other_web
    before = rows(portal, "large.bin")
    connection, response = ask(port, path + "large.bin", token)
    states = lambda: [row[0] for row in rows(portal, "large.bin")[len(before) :]]  # noqa: E731
    wait_until(lambda: states() == ["running"])
    portal.order("move_downloads")
    assert states() == ["running"]
    assert len(response.read()) == SIZE
    connection.close()
    wait_until(lambda: states() == ["complete"])


def test_downloads_stay_in_the_journal_while_their_table_is_away(
    portal: Portal, path: str, token: str, owner_of: Callable[..., Any]
) -> None:
    """The row appears once the table is back, and downloads are not affected."""
    with owner_of(portal.environment["DATABASE_URL"].rpartition("/")[2]) as server:
        server.execute("ALTER TABLE model_ops_download RENAME TO away")
        try:
            assert portal.ask("GET", path + "small.json", token=token).body == b"{}"
            wait_until(lambda: "stay in the journal" in portal.log.read_text())
            assert sum(segment.stat().st_size for segment in journals(portal).glob("*.jsonl")) > 0
        finally:
            server.execute("ALTER TABLE away RENAME TO model_ops_download")
    wait_until(lambda: [row[:3] for row in rows(portal, "small.json")] == [("complete", "own", 2)])
