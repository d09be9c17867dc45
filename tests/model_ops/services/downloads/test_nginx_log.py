"""nginx's access log in all its states: rotated, truncated, cut off, with foreign lines, early and late."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from model_ops.models import Download, UnjoinedEnd
from model_ops.services.downloads import nginx_log
from model_ops.services.downloads.nginx_log import read_log, read_new

pytestmark = pytest.mark.django_db


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "downloads.log"


@pytest.fixture
def waiting(make_model: Callable[..., Any]) -> Callable[..., None]:
    """`waiting("a", "b")`: create rows for bodies that nginx was asked to send."""
    model = make_model()

    def make(*ids: str, mode: str = "nginx", state: str = "waiting") -> None:
        for request_id in ids:
            Download.objects.create(
                request_id=request_id, model=model, mode=mode, state=state, commit="c" * 40, path="w.safetensors",
                bytes_asked=100, status=200, started_at=timezone.now(),
            )  # fmt: skip

    return make


def line(request_id: str, **changes: Any) -> str:
    said = {
        "time": "2026-11-23T19:00:00+00:00",
        "id": request_id,
        "status": 200,
        "bytes": 100,
        "seconds": 0.25,
    }
    return json.dumps(said | {"complete": "OK"} | changes) + "\n"


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(lines))


def age(path: Path) -> None:
    """Make the file look as if nginx had closed it some time ago."""
    long_ago = path.stat().st_mtime - 1000
    os.utime(path, (long_ago, long_ago))


def ends() -> dict[str, tuple[str, int | None]]:
    return {row.request_id: (row.state, row.bytes_sent) for row in Download.objects.all()}


DONE = ("complete", 100)
OPEN = ("waiting", None)


def test_line_ends_its_row_with_status_bytes_and_seconds(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a")
    write(log, line("a", status=206, bytes=70))
    assert read_log(log) == 1
    row = Download.objects.get()
    assert (row.status, row.bytes_sent, row.seconds, row.state) == (206, 70, 0.25, "complete")


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"complete": "", "bytes": 40}, ("partial", 40)),
        ({"status": 404, "bytes": 153}, ("partial", 0)),
        ({"status": 304, "bytes": 0}, ("complete", 0)),
        ({"status": 416, "bytes": 200}, ("partial", 0)),
    ],
)
def test_transfer_that_was_not_whole_is_no_complete_row(
    log: Path, waiting: Callable[..., None], changes: dict[str, Any], end: tuple[str, int]
) -> None:
    waiting("a")
    write(log, line("a", **changes))
    read_log(log)
    assert ends() == {"a": end}


def test_second_reading_finds_nothing_new(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a", "b")
    write(log, line("a"))
    assert (read_log(log), read_log(log)) == (1, 0)
    write(log, line("b"))
    assert (read_log(log), read_log(log)) == (1, 0)


def test_half_a_line_waits_for_its_other_half(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a")
    whole = line("a")
    write(log, whole[:30])
    assert read_log(log) == 0
    write(log, whole[30:])
    assert read_log(log) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        "\x00" * 400 + "\n",
        "127.0.0.1 - - [23/Nov/2026] GET / 200\n",
        "\n\n\n",
        "[]\n17\nnull\n",
        '{"id": "a"}\n',
        line("a", bytes=-1),
        line("a", bytes="many"),
        line("a", status=70000),
        line("a", bytes=10**30),
        line("a").replace("0.25", "NaN"),
        line("a").replace("100", "1e999"),
        '{"id": ["a"], "status": 200, "bytes": 1, "seconds": 1, "complete": "OK"}\n',
        "[" * 50_000 + "\n",
        "x" * 3 * 2**20 + "\n",
    ],
)
def test_garbage_is_passed_over(log: Path, waiting: Callable[..., None], garbage: str) -> None:
    waiting("a", "b")
    write(log, garbage, line("b"))
    assert read_log(log) == 1
    assert ends() == {"a": OPEN, "b": DONE}


def test_lines_of_pages_are_nothing_to_the_log(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a")
    write(log, line(""), line("-"), line("a"))
    assert read_log(log) == 1
    assert not UnjoinedEnd.objects.exists()


def test_renamed_log_is_read_to_its_end_before_the_new_one(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a", "b", "c", "d")
    write(log, line("a"))
    read_log(log)
    write(log, line("b"))
    log.rename(log.with_name("downloads.log.1"))
    write(log, line("d"))
    assert read_log(log) == 1
    assert ends() == {"a": DONE, "b": DONE, "c": OPEN, "d": OPEN}
    write(log.with_name("downloads.log.1"), line("c"))  # nginx reopens its logs a moment after the rename
    assert read_log(log) == 1
    age(log.with_name("downloads.log.1"))
    assert read_log(log) == 1
    assert set(ends().values()) == {DONE}


def test_two_rotations_between_readings_lose_nothing(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a", "b", "c")
    write(log, line("a"))
    read_log(log)
    for number, name in enumerate(("b", "c")):
        for older in range(number, 0, -1):
            log.with_name(f"downloads.log.{older}").rename(log.with_name(f"downloads.log.{older + 1}"))
        log.rename(log.with_name("downloads.log.1"))
        write(log, line(name))
    for path in log.parent.glob("downloads.log.*"):
        age(path)
    log.with_name("downloads.log.9.gz").write_bytes(b"\x1f\x8b not a log")
    age(log.with_name("downloads.log.2"))
    assert read_log(log) == 2
    assert set(ends().values()) == {DONE}


def test_truncated_log_is_read_from_its_beginning(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a", "b")
    write(log, line(""), line("a"))
    read_log(log)
    log.write_text(line("b"))
    assert read_log(log) == 1
    assert ends() == {"a": DONE, "b": DONE}


def test_truncated_log_that_has_grown_past_the_old_position_is_noticed(
    log: Path, waiting: Callable[..., None]
) -> None:
    waiting("a", "b")
    write(log, line("a"))
    read_log(log)
    log.write_text(line("b", time="2026-11-24T00:00:00+00:00") + line("") * 5)
    assert read_log(log) == 1
    assert ends() == {"a": DONE, "b": DONE}


def test_missing_log_is_no_error_and_is_read_once_it_comes(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a")
    assert read_log(log) == 0
    write(log, line("a"))
    assert read_log(log) == 1


def test_end_that_comes_before_its_row_is_joined_later(log: Path, waiting: Callable[..., None]) -> None:
    write(log, line("a"), line("a"))
    assert read_log(log) == 0
    waiting("a")
    assert read_log(log) == 1
    assert ends() == {"a": DONE}
    assert not UnjoinedEnd.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_row_that_comes_while_its_line_is_read_is_joined(log: Path, waiting: Callable[..., None]) -> None:
    names = [f"r{number}" for number in range(300)]

    def run() -> None:
        try:
            for name in names:
                write(log, line(name))
                waiting(name)
        finally:
            connection.close()

    write(log, line("earlier"))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(run)
        while not writing.done():
            read_log(log)
        writing.result()
    read_log(log)
    assert read_log(log) == 0
    assert ends() == dict.fromkeys(names, DONE)


def test_end_that_comes_after_a_day_still_counts(log: Path, waiting: Callable[..., None]) -> None:
    waiting("a", state="unknown")
    write(log, line("a"))
    read_log(log)
    assert ends() == {"a": DONE}


def test_line_cannot_change_a_row_that_nginx_does_not_send_or_that_has_ended(
    log: Path, waiting: Callable[..., None]
) -> None:
    waiting("own", mode="own", state="running")
    waiting("a")
    write(log, line("own"), line("a"), line("a", bytes=1, complete=""))
    assert read_log(log) == 1
    assert ends() == {"own": ("running", None), "a": DONE}
    assert not UnjoinedEnd.objects.exists()


def test_more_than_one_chunk_is_read_in_one_go(
    log: Path, waiting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx_log, "CHUNK", 300)
    waiting(*(f"{number}" for number in range(10)))
    write(log, *(line(f"{number}") for number in range(10)))
    assert read_log(log) == 10


def test_log_is_read_only_where_it_is_named(settings: Any, log: Path, waiting: Callable[..., None]) -> None:
    waiting("a")
    write(log, line("a"))
    settings.GATEHOUSE_NGINX_LOG = None
    assert read_new() == 0
    settings.GATEHOUSE_NGINX_LOG = log
    assert read_new() == 1
