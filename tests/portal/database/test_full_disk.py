"""A portal whose disk is full: database, broker and weights share a file system of a few hundred MiB."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from django.db import OperationalError, connection, transaction
from django.test import RequestFactory

from access_requests.errors import Unavailable
from portal import unavailable
from tests.model_ops.hub.conftest import Answer, Portal
from tests.portal.embedded.conftest import clean_environment

ENTER = ["unshare", "--user", "--map-root-user", "--mount"]
SIZE = 300  # MiB; an empty portal uses 45
MOUNT = 'mount -t tmpfs -o size="$1"m none "$2" && shift 2 && exec "$@"'
FORM = {"body": b"client_id=x", "Content_Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def small(tmp_path: Path) -> Generator[tuple[Portal, Path]]:
    """Start a portal in its own mount namespace; return it and the path of its disk as seen from here."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        [*ENTER, "sh", "-c", MOUNT, "-", "1", disk, "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets us make no file system in a user namespace")
    command = [sys.executable, "-P", "-m", "portal.embedded", "up", "--port", "0"]
    process = subprocess.Popen(
        [*ENTER, "sh", "-c", MOUNT, "-", str(SIZE), str(disk), *command],
        stdout=subprocess.PIPE, text=True, cwd="/", env=clean_environment(GATEHOUSE_STATE=str(disk / "state")),
    )  # fmt: skip
    assert process.stdout
    try:
        ready = re.search(r"http://\S+(?=/\n)", process.stdout.readline())
        assert ready
        inside = Path(f"/proc/{process.pid}/root{disk}")
        yield Portal(ready[0], {}, None, inside / "state" / "logs" / "web.log"), inside  # type: ignore[arg-type]
    finally:
        process.terminate()
        process.communicate()


def begin_sign_in(portal: Portal) -> Answer:
    """Make the smallest write that anyone can cause."""
    return portal.ask("POST", "/oauth/device", **FORM)  # type: ignore[arg-type]


@pytest.mark.slow
def test_full_disk_is_said_and_ends_with_room(small: tuple[Portal, Path]) -> None:
    portal, disk = small
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(2**16)):
            pass
    assert shutil.disk_usage(disk).free == 0
    answers = [begin_sign_in(portal) for _ in range(20)]
    said = {(a.status, a.headers["x-error-code"], a.headers["retry-after"], a.json["error"]) for a in answers}
    assert said == {(503, "DatabaseFull", "60", "temporarily_unavailable")}
    assert [portal.get(path).status for path in ("/", "/accounts/login/", "/api/models")] == [200, 200, 200]
    assert "Traceback" not in portal.log.read_text()
    filler.unlink()
    assert begin_sign_in(portal).status == 200


def test_disk_without_room_is_507_for_clients_and_a_page_for_people() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OSError, match="No space left") as met,
    ):
        full.write(b"x")
    commit = unavailable.answer(RequestFactory().post("/api/models/a/b/commit/main"), met.value)
    page = unavailable.answer(RequestFactory().post("/admin/"), met.value)
    assert (commit.status_code, commit["X-Error-Code"], "Retry-After" in commit) == (507, "NoRoom", False)
    assert page.status_code == 503


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("08006", unavailable.AWAY),  # connection_failure
        ("57P01", unavailable.AWAY),  # admin_shutdown
        ("53100", unavailable.FULL),
        ("54001", None),  # statement_too_complex
        ("58030", None),  # io_error
    ],
)
def test_server_that_gives_another_reason_is_not_said_to_be_silent(
    state: str, found: Unavailable | None
) -> None:
    with pytest.raises(OperationalError) as met, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
    assert unavailable.found_in(met.value) == found


def test_page_says_try_again_in_a_moment_only_where_that_helps() -> None:
    request = RequestFactory().get("/")
    for found, soon in ((unavailable.AWAY, True), (unavailable.FULL, False), (unavailable.NO_ROOM, False)):
        assert ("Try again in a moment." in unavailable.page(request, found).text) == soon
