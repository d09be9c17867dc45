"""Turn lines of the journal into rows by request id, so that a line that is moved twice makes one row.

A segment without a lock is moved in one transaction and then deleted. A process whose `.alive` file is not locked has
died: its open bodies become *cut*, with unknown bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Case, Value, When
from django.utils import timezone

from model_ops.enums import DownloadMode, DownloadState
from model_ops.models import Download, UnjoinedEnd
from model_ops.services.downloads.counts import count_rows

log = logging.getLogger(__name__)

SEGMENT = re.compile(r"(?P<process>.+)\.(?P<number>[0-9]+)\.jsonl")
REFUSED_LOG = "refused.log"
FIRST_STATE = {
    DownloadMode.OWN: DownloadState.RUNNING,
    DownloadMode.NGINX: DownloadState.WAITING,
    DownloadMode.S3: DownloadState.HANDED_OVER,
}
COPIED = (
    "request_id", "model_id", "grant_id", "token_id", "user_id", "commit", "path", "first_byte", "bytes_asked",
    "status", "address", "client", "mode", "link_seconds",
)  # fmt: skip
UNJOINED_AFTER = timedelta(days=1)
NEVER_ENDS_AFTER = timedelta(days=7)  # a journal that was lost with its machine never reports the end
AT_ONCE = 1000  # rows that one run closes
MOST = 2**62
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)

Line = dict[str, Any]


def folder() -> Path:
    return Path(settings.GATEHOUSE_STATE) / "downloads"


def move(journals: Path) -> int:
    """Move segments that no one writes any more; return how many lines. Raises if the database fails."""
    if not journals.is_dir():
        return 0
    moved, held = 0, set[str]()
    for process, path in _find_segments(journals):
        if process in held:
            continue
        with _left_alone(path) as opened:
            if opened is not None:
                lines = os.pread(opened, os.fstat(opened).st_size, 0).split(b"\n")
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                    _write_rows(lines, process, journals)
                path.unlink()
                moved += len(lines) - 1
            elif path.exists():  # an end must not be written before the begin that another process is moving
                held.add(process)
    for alive in journals.glob("*.alive"):
        _cut_off_bodies_of_dead(alive)
    return moved


def _cut_off_bodies_of_dead(alive: Path) -> None:
    """Mark what a process was sending as cut off, once it has died and all its lines are in rows."""
    process = alive.name.removesuffix(".alive")
    with _left_alone(alive) as opened:
        if opened is None or any(name == process for name, _ in _find_segments(alive.parent)):
            return
        running = Download.objects.filter(journal=process, state=DownloadState.RUNNING)
        cut = running.update(state=DownloadState.CUT, journal="")
        alive.unlink()
        if cut:
            log.warning("%d downloads were cut off: the process that sent them has died.", cut)


def close_open_rows() -> None:
    """Close rows whose end was not reported for a long time."""
    now = timezone.now()
    _close_rows(DownloadState.WAITING, now - UNJOINED_AFTER, state=DownloadState.UNKNOWN)
    _close_rows(DownloadState.RUNNING, now - NEVER_ENDS_AFTER, state=DownloadState.CUT, journal="")
    for end in UnjoinedEnd.objects.filter(read_at__lt=now - UNJOINED_AFTER).order_by("read_at")[:AT_ONCE]:
        _keep_refused(
            folder(),
            {"end": {"request_id": end.request_id, "bytes_sent": end.bytes_sent}},
            "no row has its id",
        )
        end.delete()


def _close_rows(open_as: DownloadState, before: datetime, **fields: Any) -> None:
    """Close the oldest of them; the next run takes the rest after `AT_ONCE`."""
    old = Download.objects.filter(state=open_as, started_at__lt=before).order_by("started_at")
    ids = list(old.values_list("pk", flat=True)[:AT_ONCE])
    if ids:
        Download.objects.filter(pk__in=ids, state=open_as).update(**fields)


def _find_segments(journals: Path) -> list[tuple[str, Path]]:
    """Return the segments, for each process in the order in which they were written."""
    found = [(match, path) for path in journals.iterdir() if (match := SEGMENT.fullmatch(path.name))]
    found.sort(key=lambda one: (one[0]["process"], int(one[0]["number"])))
    return [(match["process"], path) for match, path in found]


@contextlib.contextmanager
def _left_alone(path: Path) -> Iterator[int | None]:
    """Return the locked file; None if its process is alive, another one moves it, or it is gone."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield opened if os.fstat(opened).st_nlink else None
    except BlockingIOError:
        yield None
    finally:
        os.close(opened)


def _write_rows(lines: list[bytes], process: str, journals: Path) -> None:
    begun: dict[str, Download] = {}
    ended: dict[str, Line] = {}
    for line in filter(None, lines):
        try:
            read = json.loads(line)
            if "begin" in read:
                row = _begun_row(read["begin"], process)
                begun.setdefault(row.request_id, row)
            else:
                facts = read["end"]
                sent, seconds = int(facts["bytes_sent"]), float(facts["seconds"])
                if not (0 <= sent < MOST and 0 <= seconds < MOST):
                    raise ValueError("no number of bytes and seconds")
                ended[_checked_id(facts["request_id"])] = {"bytes_sent": sent, "seconds": seconds}
        except UNREADABLE as error:
            _keep_refused(journals, line.decode("utf-8", "replace"), f"it cannot be read ({error!r})")
    for request_id in begun.keys() & ended.keys():
        row, end = begun[request_id], ended.pop(request_id)
        row.bytes_sent, row.seconds, row.journal = end["bytes_sent"], end["seconds"], ""
        row.state = DownloadState.COMPLETE if row.bytes_sent >= row.bytes_asked else DownloadState.PARTIAL
    _insert_rows(list(begun.values()), journals)
    for request_id, end in ended.items():
        if not end_row(request_id, **end) and not Download.objects.filter(request_id=request_id).exists():
            _keep_refused(journals, {"end": {"request_id": request_id, **end}}, "its begin is missing")


def _begun_row(facts: Line, process: str) -> Download:
    row = Download(
        **{name: facts[name] for name in COPIED}, started_at=datetime.fromisoformat(facts["started_at"])
    )
    _checked_id(row.request_id)
    if row.started_at.tzinfo is None:
        raise ValueError("a time without its zone")
    row.state = FIRST_STATE[DownloadMode(row.mode)]
    row.journal = process if row.state == DownloadState.RUNNING else ""
    return row


def _checked_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no id")
    return value


def _insert_rows(rows: list[Download], journals: Path) -> None:
    """Insert new rows; existing ones stay as they are, and lines that cannot become rows are kept in a file."""
    try:
        with transaction.atomic():
            ids = [row.request_id for row in rows]
            known = set(Download.objects.filter(request_id__in=ids).values_list("request_id", flat=True))
            new = [row for row in rows if row.request_id not in known]
            Download.objects.bulk_create(new, ignore_conflicts=True, batch_size=1000)
            count_rows(new)
    except (IntegrityError, DataError, ValueError) as error:
        if len(rows) > 1:
            for row in rows:
                _insert_rows([row], journals)
            return
        facts = {name: getattr(rows[0], name) for name in COPIED}
        facts |= {"started_at": rows[0].started_at.isoformat(), "bytes_sent": rows[0].bytes_sent}
        _keep_refused(journals, {"begin": facts}, " ".join(str(error).split()))


def end_row(request_id: str, *, bytes_sent: int, seconds: float) -> bool:
    """Write the end of a body into its row; return False if no row waits for one."""
    whole = When(bytes_asked__lte=bytes_sent, then=Value(DownloadState.COMPLETE))
    waiting = Download.objects.filter(request_id=request_id, mode=DownloadMode.OWN, bytes_sent=None)
    return bool(
        waiting.update(
            bytes_sent=bytes_sent,
            seconds=seconds,
            journal="",
            state=Case(whole, default=Value(DownloadState.PARTIAL)),
        )
    )


def _keep_refused(journals: Path, line: Line | str, why: str) -> None:
    """Keep a line that can't become a row on disk before its segment is deleted, and log it."""
    record = json.dumps({"at": timezone.now().isoformat(), "why": why, "line": line}, default=str)
    log.error("A line of the download log is kept in %s: %s: %s", journals / REFUSED_LOG, why, line)
    with (journals / REFUSED_LOG).open("a") as file:
        file.write(record + "\n")
        file.flush()
        os.fsync(file.fileno())
