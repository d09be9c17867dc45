"""Read nginx's JSON access log and join the bodies that it sent for us to their rows by request id.

The position in the log is stored in the same transaction as the lines read, so nothing is counted twice or left out. The
log may be rotated (renamed or truncated), end in half a line and hold other lines; a row may come later than its line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from model_ops.enums import DownloadMode, DownloadState
from model_ops.models import Download, LogPosition, UnjoinedEnd
from model_ops.services.downloads.rows import UNREADABLE

log = logging.getLogger(__name__)

CHUNK = 2**20  # bytes; also the longest line
SETTLED = 60.0  # seconds without a change, after which a rotated file gets no more lines
LARGEST = 2**62
MOST = 1000  # late rows that one run joins
ENDED_BY_NGINX = (DownloadState.WAITING, DownloadState.UNKNOWN)
COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}


@dataclass(frozen=True)
class End:
    """One line of the log; `complete` is as nginx reports it."""

    request_id: str
    status: int
    bytes_sent: int
    seconds: float
    complete: bool


def read_new() -> int:
    """Read new lines of `GATEHOUSE_NGINX_LOG`; if that fails, log it and let the next run try again."""
    if settings.GATEHOUSE_NGINX_LOG is None:
        return 0
    try:
        return read_log(settings.GATEHOUSE_NGINX_LOG)
    except OSError as error:
        log.warning("nginx's log cannot be read, so its downloads wait: %s", error)
        return 0


def read_log(path: Path) -> int:
    """Read new lines in the log and its rotated files; return how many bodies ended.

    Ends that came before their rows are joined first.
    """
    ended = 0
    row_is_there = Download.objects.filter(request_id=OuterRef("request_id"), state__in=ENDED_BY_NGINX)
    for row in UnjoinedEnd.objects.filter(Exists(row_is_there)).order_by("pk")[:MOST]:
        with transaction.atomic():
            ended += _end_row(End(row.request_id, row.status, row.bytes_sent, row.seconds, row.complete))
            row.delete()
    files = _unread_files(path)
    for file in files:
        ended += _read_file(file, path)
        if file != files[-1] and time.time() - file.stat().st_mtime < SETTLED:
            break  # nginx may still be writing to it
    return ended


def _unread_files(path: Path) -> list[Path]:
    """Return the file that was read last, under its present name, and the files after it, oldest first."""
    position = LogPosition.objects.filter(path=str(path)).first()
    files: list[tuple[float, Path]] = []
    for file in path.parent.glob(f"{path.name}*"):
        with contextlib.suppress(FileNotFoundError):
            if file.suffix not in COMPRESSED and file.is_file():
                files.append((file.stat().st_mtime, file))
    ordered = [file for _, file in sorted(files) if file != path]
    if path.is_file():
        ordered.append(path)
    if position is None:
        return ordered[-1:] if ordered[-1:] == [path] else []
    for place, file in enumerate(ordered):
        with file.open("rb") as opened:
            stat = os.fstat(opened.fileno())
            is_same = stat.st_ino == position.inode and stat.st_size >= position.offset
            if is_same and _identify_content(opened) in {position.head, ""}:
                return ordered[place:]
    log.warning(
        "%s is another file by now: what is left of the log is read from its beginning, which changes nothing twice.",
        path,
    )
    return ordered


def _identify_content(opened: IO[bytes]) -> str:
    """Identify a file's content by its first line, once that is complete."""
    opened.seek(0)
    first = opened.readline(CHUNK)
    return hashlib.sha256(first).hexdigest() if first.endswith(b"\n") else ""


def _read_file(file: Path, path: Path) -> int:
    """Read a file to its end and write the ends into their rows, with a transaction for each chunk."""
    ended = 0
    with file.open("rb") as opened:
        while True:
            with transaction.atomic():
                position, _ = LogPosition.objects.select_for_update(no_key=True).get_or_create(
                    path=str(path), defaults={"inode": os.fstat(opened.fileno()).st_ino, "offset": 0}
                )
                content = _read_next_lines(opened, position)
                if not content:
                    return ended
                ends = list(_readable_ends(content))
                waiting = [end for end in ends if not _end_row(end)]
                # Keep those whose rows do not exist yet. A row may appear between the two queries: its existence proves
                # nothing, but its end does.
                there = Download.objects.filter(request_id__in=[end.request_id for end in waiting])
                closed = set(there.exclude(state__in=ENDED_BY_NGINX).values_list("request_id", flat=True))
                missing = [UnjoinedEnd(**vars(end)) for end in waiting if end.request_id not in closed]
                UnjoinedEnd.objects.bulk_create(missing, ignore_conflicts=True)
                ended += len(ends) - len(waiting)
                position.save()


def _read_next_lines(opened: IO[bytes], position: LogPosition) -> bytes:
    """Return complete lines after the position and move it; a line longer than a chunk is not one of ours."""
    stat, head = os.fstat(opened.fileno()), _identify_content(opened)
    known = position.inode == stat.st_ino and position.head in {"", head} and position.offset <= stat.st_size
    start = position.offset if known else 0
    opened.seek(start)
    content = opened.read(CHUNK)
    lines = content[: content.rfind(b"\n") + 1] or (content if len(content) == CHUNK else b"")
    position.inode, position.head, position.offset = stat.st_ino, head, start + len(lines)
    return lines


def _readable_ends(content: bytes) -> Iterator[End]:
    garbage = 0
    for line in content.splitlines():
        try:
            read = json.loads(line)
            request_id = read["id"]
            if request_id in {"", "-"}:
                continue  # this line is not about a download
            end = End(
                request_id,
                int(read["status"]),
                int(read["bytes"]),
                float(read["seconds"]),
                read["complete"] == "OK",
            )
            usable = isinstance(request_id, str) and len(request_id) <= 64 and request_id.isprintable()
        except UNREADABLE:
            garbage += 1
            continue
        if usable and 0 <= end.status < 1000 and 0 <= end.bytes_sent < LARGEST and 0 <= end.seconds < LARGEST:
            yield end
        else:
            garbage += 1
    if garbage:
        log.warning("%d lines of nginx's log cannot be read and were left out.", garbage)


def _end_row(end: End) -> bool:
    """Write one end; the bytes of nginx's own error pages do not count as bytes of the file."""
    whole = end.complete and end.status < 400
    changed = Download.objects.filter(
        request_id=end.request_id, mode=DownloadMode.NGINX, state__in=ENDED_BY_NGINX
    ).update(
        status=end.status,
        bytes_sent=end.bytes_sent if end.status < 300 else 0,
        seconds=end.seconds,
        state=DownloadState.COMPLETE if whole else DownloadState.PARTIAL,
    )
    return bool(changed)
