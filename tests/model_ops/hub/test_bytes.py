"""Ranges, the download log, the limit on bodies and the end of a right, with a live gunicorn."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings

from model_ops.delivery import RETRY_AFTER
from model_ops.services.downloads.in_flight import HERE
from tests.model_ops.hub.conftest import LARGE, MODEL, Portal
from tests.model_ops.hub.ways import beside, slow_download
from tests.waiting import wait_until


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=9-5", "bytes=x", "lines=1-2", "bytes=-"])
def test_ranges_that_are_not_single_give_the_whole_file(portal: Portal, header: str) -> None:
    answer = portal.get(f"/{MODEL}/resolve/{portal.commit}/config.json", "granted", range=header)
    assert (answer.status, answer.body) == (200, portal.files["config.json"])


def test_range_outside_the_file_is_not_satisfiable(portal: Portal) -> None:
    size = len(portal.files["config.json"])
    for name, length in (("config.json", size), ("extra/empty.txt", 0)):
        answer = portal.get(f"/{MODEL}/resolve/{portal.commit}/{name}", "granted", range=f"bytes={length}-")
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{length}")
        assert answer.headers["x-error-code"] == "RangeNotSatisfiable"


def test_range_is_left_alone_when_the_content_is_another(portal: Portal) -> None:
    path = f"/{MODEL}/resolve/{portal.commit}/config.json"
    etag = portal.head(path, "granted").headers["etag"]
    assert portal.get(path, "granted", range="bytes=0-1", if_range=etag).status == 206
    assert portal.get(path, "granted", range="bytes=0-1", if_range='"other"').status == 200
    assert portal.head(path, "granted", range="bytes=0-1").status == 200


def test_each_body_is_one_row_with_the_bytes_that_went_out(portal: Portal) -> None:
    portal.order("model", repo_id="maker/logged")
    content = os.urandom(300_000)
    commit = portal.order(
        "commit", repo_id="maker/logged", add={"a.bin": base64.b64encode(content).decode()}
    )["commit"]
    token = portal.order("person", name="logged", repo_id="maker/logged", state="granted")["token"]
    path = f"/maker/logged/resolve/{commit}/a.bin"
    portal.ask("HEAD", path, token=token)
    portal.ask("GET", path, token=token, user_agent="unknown/None; hf_hub/2.4.0")
    portal.ask("GET", path, token=token, range="bytes=1000-1999")
    portal.ask("GET", path, token=token, range="bytes=300000-")
    portal.ask("GET", f"/maker/logged/resolve/{commit}/README.md")
    rows = portal.finished_downloads("maker/logged", 3)
    seen = [
        (row["path"], row["first_byte"], row["bytes_asked"], row["bytes_sent"], row["status"], row["user"])
        for row in rows
    ]
    readme = rows[2]["bytes_asked"]
    assert seen == [
        ("a.bin", 0, 300_000, 300_000, 200, "logged"),
        ("a.bin", 1000, 1000, 1000, 206, "logged"),
        ("README.md", 0, readme, readme, 200, None),
    ]
    assert {row["commit"] for row in rows} == {commit}
    assert (rows[0]["client"], rows[0]["address"]) == ("unknown/None; hf_hub/2.4.0", "127.0.0.1")
    assert rows[0]["grant_id"]
    assert rows[2]["grant_id"] is None


def test_broken_transfer_is_logged_with_what_went_out(portal: Portal, large: tuple[str, bytes]) -> None:
    path, content = large
    token = portal.order("person", name="impatient", repo_id="maker/large", state="granted")["token"]
    before = len(portal.finished_downloads("maker/large", 0))
    with slow_download(portal, path, token) as response:
        assert response.read(1000) == content[:1000]
    row = portal.finished_downloads("maker/large", before + 1)[-1]
    assert (row["user"], row["status"], row["bytes_asked"]) == ("impatient", 200, LARGE)
    assert 1000 <= row["bytes_sent"] < LARGE


def test_running_transfer_ends_soon_after_its_grant(portal: Portal, large: tuple[str, bytes]) -> None:
    path, content = large
    token = portal.order("person", name="leaver", repo_id="maker/large", state="granted")["token"]
    before = len(portal.finished_downloads("maker/large", 0))
    with slow_download(portal, path, token) as response:
        response.read(1000)
        portal.order("revoke", name="leaver", repo_id="maker/large")
        rows = portal.finished_downloads("maker/large", before + 1)
        assert rows[-1]["user"] == "leaver"
        assert rows[-1]["bytes_sent"] < len(content)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    answer = portal.ask("GET", path, token=token, range="bytes=1000-")
    assert (answer.status, answer.headers["x-error-code"]) == (403, "GatedRepo")


def test_slow_downloads_leave_room_for_everything_else(portal: Portal, large: tuple[str, bytes]) -> None:
    """All places are taken, by people at their limits, and one of them asks for another download."""
    path, content = large
    most, each = HERE, settings.GATEHOUSE_MOST_BODIES_EACH
    crowd = [
        portal.order("person", name=f"crowd-{n}", repo_id="maker/large", state="granted")["token"]
        for n in range(most // each + 1)
    ]
    before = len(portal.finished_downloads("maker/large", 0))
    with ExitStack() as stack:
        own = [stack.enter_context(slow_download(portal, path, crowd[0])) for _ in range(each + 1)]
        assert [response.status for response in own] == [200] * each + [429]
        assert "You have reached the limit" in (own[-1].headers["X-Error-Message"] or "")
        others = [
            stack.enter_context(slow_download(portal, path, crowd[1 + n // each])) for n in range(most - each)
        ]
        assert [response.status for response in others] == [200] * (most - each)
        late = stack.enter_context(slow_download(portal, path, crowd[-1]))
        assert (late.status, late.headers["Retry-After"], late.headers["X-Error-Code"]) == (
            429,
            str(RETRY_AFTER),
            "TooManyDownloads",
        )
        assert portal.get(f"/api/models/{MODEL}").status == 200
        assert portal.ask("HEAD", path, token=crowd[0]).status == 200
        small = portal.ask("GET", path.replace("large.bin", "small.json"), token=crowd[0])
        assert (small.status, small.body) == (200, b"{}")
        wait_until(lambda: connections_held(portal) <= 2)  # its threads use some briefly from time to time
        assert own[0].read() == content
    rows = portal.finished_downloads("maker/large", before + most + 1)
    assert len(rows) == before + most + 1
    assert portal.ask("GET", path, token=crowd[0], range="bytes=0-999999").status == 206


def test_downloads_are_counted_over_all_web_processes(portal: Portal, large: tuple[str, bytes]) -> None:
    path, content = large
    first, second = (
        portal.order("person", name=name, repo_id="maker/large", state="granted")["token"]
        for name in ("counted-one", "counted-two")
    )
    own_places = portal.environment["REDIS_URL"].replace("db=7", "db=8")
    limits = {"GATEHOUSE_MOST_BODIES": "7", "GATEHOUSE_MOST_BODIES_EACH": "4", "REDIS_URL": own_places}
    with beside(portal, GATEHOUSE_WEB_PROCESSES="3", **limits) as web, ExitStack() as stack:
        mine = [stack.enter_context(slow_download(web, path, first)) for _ in range(8)]
        assert sorted(response.status for response in mine) == [200] * 4 + [429] * 4
        others = [stack.enter_context(slow_download(web, path, second)) for _ in range(8)]
        assert sorted(response.status for response in others) == [200] * 3 + [429] * 5
        assert next(response for response in mine if response.status == 200).read() == content


def connections_held(portal: Portal) -> int:
    """Return how many connections to its database the portal is using, including the seeder's."""
    import psycopg

    folder, _, name = portal.environment["DATABASE_URL"].rpartition("/")
    question = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state <> 'idle' AND pid <> pg_backend_pid()"
    with psycopg.connect(dbname=name, user="gatehouse_portal", host=folder.partition("@/")[2]) as server:
        row = server.execute(question, [name]).fetchone()
    assert row
    return int(row[0])


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_damaged_blob_is_a_coded_refusal(portal: Portal, harm: str) -> None:
    content = f"to be {harm}".encode()
    commit = portal.order(
        "commit", repo_id=MODEL, revision=harm, add={"x.bin": base64.b64encode(content).decode()}
    )["commit"]
    blob = portal.order("blob", sha256=hashlib.sha256(content).hexdigest())["path"]
    Path(blob).unlink() if harm == "missing" else os.truncate(blob, 3)
    for method in ("GET", "HEAD"):
        answer = portal.ask(method, f"/{MODEL}/resolve/{commit}/x.bin", token=portal.tokens["granted"])
        assert (answer.status, answer.headers["x-error-code"]) == (403, "GatedRepo")
        assert "cannot be read on this server" in answer.headers["x-error-message"]
    wait_until(lambda: "The content of x.bin" in portal.log.read_text())
