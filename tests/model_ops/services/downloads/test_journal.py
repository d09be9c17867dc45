"""Downloads in the journal become rows even if the process, the disk or the database fails."""

from __future__ import annotations

import contextlib
import fcntl
import json
import resource
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from model_ops.enums import DownloadState
from model_ops.models import Download, UnjoinedEnd
from model_ops.services.downloads import journal, rows
from model_ops.services.downloads.journal import Begun, NotLogged, begin, end, ingest

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    """The folder of this test's journals."""
    settings.GATEHOUSE_STATE = tmp_path / "state"
    return tmp_path / "state" / "downloads"


@pytest.fixture
def begun(make_model: Callable[..., Any]) -> Callable[..., Begun]:
    """`begun("a", path="x")`: return the start of a 100-byte body sent to an anonymous person."""
    model = make_model()

    def make(request_id: str, **fields: Any) -> Begun:
        facts: dict[str, Any] = {
            "request_id": request_id, "model_id": model.pk, "grant_id": None, "token_id": None, "user_id": None,
            "commit": "c" * 40, "path": "model.safetensors", "first_byte": 0, "bytes_asked": 100, "status": 200,
            "address": "192.0.2.7", "client": "hf/1", "mode": "own", "started_at": timezone.now(),
        }  # fmt: skip
        return Begun(**facts | fields)

    return make


def states() -> dict[str, tuple[str, int | None]]:
    return {row.request_id: (row.state, row.bytes_sent) for row in Download.objects.all()}


def write_dead(folder: Path, lines: list[Any], process: str = "other-1-aa") -> Path:
    """Write the journal of a killed process: nobody holds a lock on it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{process}.alive").touch()
    segment = folder / f"{process}.1.jsonl"
    segment.write_bytes(
        b"".join(
            (line if isinstance(line, bytes) else json.dumps(line, default=str).encode()) + b"\n"
            for line in lines
        )
    )
    return segment


def as_line(entry: Begun, **changes: Any) -> dict[str, Any]:
    return {"begin": vars(entry) | {"started_at": entry.started_at.isoformat()} | changes}


@contextlib.contextmanager
def full_disk(at: int) -> Iterator[None]:
    """Keep the files of this process from growing beyond `at` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_begin_then_end_is_one_row_with_every_fact(folder: Path, begun: Callable[..., Begun]) -> None:
    entry = begun("a", first_byte=7, status=206, path="déjà vu.bin")
    begin(entry)
    end("a", bytes_sent=100, seconds=1.5)
    ingest()
    row = Download.objects.get()
    facts = {name: getattr(row, name) for name in vars(entry)}
    assert facts == vars(entry)
    assert (row.state, row.bytes_sent, row.seconds, row.journal) == ("complete", 100, 1.5, "")
    assert list(folder.glob("*.jsonl")) == []


def test_process_without_a_thread_leaves_ended_bodies_for_the_scheduled_job(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    begin(begun("a"))
    end("a", bytes_sent=100, seconds=1)
    assert rows.move(folder) == 2
    assert states() == {"a": ("complete", 100)}


def test_end_before_the_last_byte_is_partial_and_exact(folder: Path, begun: Callable[..., Begun]) -> None:
    begin(begun("a"))
    end("a", bytes_sent=99, seconds=1)
    ingest()
    assert states() == {"a": ("partial", 99)}


def test_open_body_of_a_living_process_stays_open_and_is_ended_later(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    begin(begun("a"))
    ingest()
    ingest()
    assert states() == {"a": ("running", None)}
    end("a", bytes_sent=100, seconds=2)
    ingest()
    assert states() == {"a": ("complete", 100)}


def test_open_body_of_a_dead_process_is_cut_with_bytes_unknown(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    write_dead(folder, [as_line(begun("a")), as_line(begun("b")), {"end": {"request_id": "b", "bytes_sent": 100, "seconds": 1}}])  # fmt: skip
    ingest()
    assert states() == {"a": ("cut", None), "b": ("complete", 100)}
    assert [path.name for path in folder.iterdir() if path.name.startswith("other")] == []


def test_row_that_was_moved_while_its_process_lived_is_cut_when_it_dies(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    folder.mkdir(parents=True)
    living = journal.Journal(folder)
    living.append(as_line(begun("a")))
    living.settle()
    assert rows.move(folder) == 1
    assert rows.move(folder) == 0
    assert states() == {"a": ("running", None)}
    journal.os.close(living._alive)
    rows.move(folder)
    assert states() == {"a": ("cut", None)}


def test_segment_that_comes_back_after_it_was_moved_makes_no_second_row(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    """This happens after a crash between the commit and the unlink."""
    lines = [as_line(begun("a")), {"end": {"request_id": "a", "bytes_sent": 60, "seconds": 1}}, as_line(begun("b"))]  # fmt: skip
    segment = write_dead(folder, lines)
    content = segment.read_bytes()
    ingest()
    segment.write_bytes(content)
    assert ingest() == 3
    assert states() == {"a": ("partial", 60), "b": ("cut", None)}
    assert not (folder / rows.REFUSED_LOG).exists()


def test_end_waits_while_another_process_moves_the_begin(folder: Path, begun: Callable[..., Begun]) -> None:
    first = write_dead(folder, [as_line(begun("a"))])
    second = first.with_name("other-1-aa.2.jsonl")
    second.write_text(json.dumps({"end": {"request_id": "a", "bytes_sent": 100, "seconds": 1}}) + "\n")
    with first.open() as moved_elsewhere:
        fcntl.flock(moved_elsewhere, fcntl.LOCK_EX)
        assert rows.move(folder) == 0
    assert rows.move(folder) == 2
    assert states() == {"a": ("complete", 100)}
    assert not (folder / rows.REFUSED_LOG).exists()


def test_same_id_twice_is_one_row(folder: Path, begun: Callable[..., Begun]) -> None:
    write_dead(folder, [as_line(begun("a")), as_line(begun("a", path="other"))])
    write_dead(folder, [as_line(begun("a", path="third"))], process="other-2-bb")
    ingest()
    assert list(Download.objects.values_list("request_id", "path")) == [("a", "model.safetensors")]


@pytest.mark.parametrize(
    "line",
    [
        b"\x00" * 300,
        b'{"begin": {"request_id": "torn',
        b"[]",
        b"7",
        b'"begin"',
        b'{"end": null}',
        b'{"end": {"request_id": ["x"], "bytes_sent": 1, "seconds": 1}}',
        b'{"end": {"request_id": "nobody", "bytes_sent": 1, "seconds": 1}}',
        b'{"end": {"request_id": "good", "bytes_sent": 1e400, "seconds": 1}}',
        b'{"end": {"request_id": "good", "bytes_sent": 99999999999999999999, "seconds": 1}}',
        b"\xff\xfe",
    ],
)
def test_broken_line_is_kept_aside_and_its_neighbours_become_rows(
    folder: Path, begun: Callable[..., Begun], line: bytes
) -> None:
    write_dead(folder, [as_line(begun("good")), line, as_line(begun("other"))])
    ingest()
    assert set(states()) == {"good", "other"}
    assert len((folder / rows.REFUSED_LOG).read_text().splitlines()) == 1
    assert list(folder.glob("*.jsonl")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "nul\x00byte"},
        {"grant_id": 999_999_999},
        {"model_id": "x"},
        {"bytes_asked": 10**30},
        {"path": "p" * 501},
        {"mode": "carrier pigeon"},
        {"address": "nowhere"},
        {"started_at": "yesterday"},
        {"started_at": "2026-01-01T00:00:00"},
        {"request_id": ""},
    ],
)
def test_line_that_no_row_can_hold_is_kept_aside(
    folder: Path, begun: Callable[..., Begun], changes: dict[str, Any]
) -> None:
    write_dead(folder, [as_line(begun("good")), as_line(begun("bad"), **changes), as_line(begun("other"))])
    ingest()
    assert set(states()) == {"good", "other"}
    kept = json.loads((folder / rows.REFUSED_LOG).read_text())
    assert kept["line"]


def test_full_disk_refuses_the_download_and_leaves_no_torn_line(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    begin(begun("a"))
    size = next(folder.glob("*.jsonl")).stat().st_size
    with full_disk(size + 20), pytest.raises(NotLogged):
        begin(begun("b"))
    begin(begun("c"))
    ingest()
    assert set(states()) == {"a", "c"}
    assert not (folder / rows.REFUSED_LOG).exists()


def test_end_that_a_full_disk_did_not_take_is_written_when_there_is_room(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    begin(begun("a"))
    with full_disk(20):
        end("a", bytes_sent=40, seconds=1)
        ingest()
        assert states() == {"a": ("running", None)}
    ingest()
    assert states() == {"a": ("partial", 40)}


def test_lines_stay_while_the_database_does_not_take_them(
    folder: Path, begun: Callable[..., Begun], django_db_blocker: Any
) -> None:
    begin(begun("a"))
    end("a", bytes_sent=100, seconds=1)
    with django_db_blocker.block(), pytest.raises(RuntimeError, match="Database access not allowed"):
        ingest()
    assert [path.name.count(".jsonl") for path in folder.glob("*.jsonl")] == [1]
    ingest()
    assert states() == {"a": ("complete", 100)}


def test_large_segment_is_followed_by_another_and_all_is_moved(
    folder: Path, begun: Callable[..., Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT", 1000)
    for number in range(12):
        begin(begun(f"{number}"))
    assert len(list(folder.glob("*.jsonl"))) > 3
    assert all(path.stat().st_size < 2000 for path in folder.glob("*.jsonl"))
    ingest()
    assert set(states()) == {f"{number}" for number in range(12)}


def test_nginx_and_bucket_rows_say_that_somebody_else_sends(
    folder: Path, begun: Callable[..., Begun]
) -> None:
    write_dead(folder, [as_line(begun("n"), mode="nginx"), as_line(begun("s"), mode="s3", link_seconds=3600)])
    ingest()
    assert states() == {"n": ("waiting", None), "s": ("handed_over", None)}
    assert Download.objects.get(request_id="s").link_seconds == 3600


def test_rows_whose_end_nobody_told_say_so_in_time(folder: Path, begun: Callable[..., Begun]) -> None:
    now, day = timezone.now(), timedelta(days=1)
    write_dead(
        folder,
        [
            as_line(begun("new", mode="nginx", started_at=now - day / 2)),
            as_line(begun("old", mode="nginx", started_at=now - day * 1.1)),
        ],
    )
    ingest()
    Download.objects.create(**vars(begun("lost", started_at=now - day * 8)), journal="gone")
    Download.objects.create(**vars(begun("long", started_at=now - day * 6)), journal="gone")
    UnjoinedEnd.objects.create(request_id="rowless", status=200, bytes_sent=3, seconds=1, complete=True)
    UnjoinedEnd.objects.update(read_at=now - day * 2)
    rows.close_open_rows()
    assert states() == {
        "new": ("waiting", None),
        "old": ("unknown", None),
        "lost": ("cut", None),
        "long": ("running", None),
    }
    assert "rowless" in (folder / rows.REFUSED_LOG).read_text()
    assert not UnjoinedEnd.objects.exists()


def test_states_of_the_log_are_all_in_the_docs() -> None:
    page = (Path(__file__).parents[4] / "docs" / "downloads.md").read_text()
    assert [label for label in DownloadState.labels if f"| {label} |" not in page] == []
