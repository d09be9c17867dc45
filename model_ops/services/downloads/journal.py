"""Write the journal of downloads: the begin and end of each as lines of this process's file, before the database has them.

    <state>/downloads/<process>.alive        locked by the process as long as it lives
    <state>/downloads/<process>.<n>.jsonl    one segment; locked while it is written
    <state>/downloads/refused.log            lines that cannot become rows, kept for the operator

There is one line before the first byte and one when the body has ended, each a single write. Both survive when the
process is killed. `services.downloads.rows` turns segments that no one writes any more into rows. If the journal can't be
written (a full disk), the download is refused: nothing is sent without being logged.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.db import connection

from model_ops.services.downloads import rows

log = logging.getLogger(__name__)

SEGMENT = 2**20  # bytes; after that a new segment starts
PAUSE = 0.5  # seconds that lines may wait before they are moved
AGAIN = 2.0  # seconds until the next try after the database or the disk failed


class NotLogged(Exception):
    """The journal can't be written, so the download must not begin."""


@dataclass(frozen=True)
class Begun:
    """One body that is about to be sent: everything in its row except its end."""

    request_id: str
    model_id: int
    grant_id: int | None
    token_id: int | None
    user_id: int | None
    commit: str
    path: str
    first_byte: int
    bytes_asked: int
    status: int
    address: str | None
    client: str
    mode: str  # DownloadMode
    started_at: datetime
    link_seconds: int | None = None


def begin(entry: Begun) -> None:
    """Log a body before its first byte. Raises `NotLogged` if that isn't possible."""
    facts = vars(entry) | {"started_at": entry.started_at.isoformat(), "client": entry.client[:200]}
    try:
        _current_journal().append({"begin": facts})
    except OSError as error:
        log.error("The download log cannot be written, so %s is refused: %s", entry.path, error)  # noqa: TRY400
        raise NotLogged(entry.path) from error


def end(request_id: str, *, bytes_sent: int, seconds: float) -> None:
    """Log that a body has ended. Never raises: a line that could not be written is retried until it can."""
    facts = {"request_id": request_id, "bytes_sent": bytes_sent, "seconds": round(seconds, 3)}
    _current_journal().owe({"end": facts}, close=not _background)


def ingest() -> int:
    """Move all possible lines into rows, of this process and of dead ones; return how many."""
    if _current is not None and _current.is_ours():
        _current.settle()
    return rows.move(rows.folder())


def move_in_background() -> None:
    """Start a thread that moves this process's lines within a second; called where bodies are served."""
    global _background
    _background = True
    try:
        _current_journal().start()
    except OSError as error:  # pages keep working; each download tries again, and is refused while it fails
        log.error("The download log cannot be written: %s", error)  # noqa: TRY400


class Journal:
    """This process's file, and the thread that moves its lines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._pid = folder, os.getpid()
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{socket.gethostname()[:40]}-{self._pid}-{secrets.token_hex(4)}".replace("/", "_")
        self._alive = open_locked(folder / f"{self.name}.alive")
        self._lock = threading.Lock()
        self._segment, self._number, self._size = -1, 0, 0
        self._owed: list[dict[str, object]] = []
        self._written = threading.Event()
        self._thread: threading.Thread | None = None

    def is_ours(self) -> bool:
        """Return False in a fork of the process that made it, or if the state folder has changed."""
        return self._pid == os.getpid() and self.folder == rows.folder()

    def append(self, line: dict[str, object]) -> None:
        """Append one line, completely or not at all."""
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._append_line(data)
        self._written.set()

    def owe(self, line: dict[str, object], *, close: bool = False) -> None:
        """Write a line now or later; with `close`, no thread of this process moves it."""
        with self._lock:
            self._owed.append(line)
        self.settle(close=close)
        self._written.set()

    def settle(self, *, close: bool = True) -> None:
        """Write pending lines; `close` releases the segment, so that it can be moved."""
        with self._lock:
            try:
                while self._owed:
                    self._append_line(json.dumps(self._owed[0], separators=(",", ":")).encode() + b"\n")
                    self._owed.pop(0)
            except OSError as error:
                log.error("The end of %d downloads cannot be written yet: %s", len(self._owed), error)  # noqa: TRY400
            if close:
                self._close_segment()

    def _append_line(self, data: bytes) -> None:
        if self._segment < 0:
            self._number += 1
            self._segment = open_locked(self.folder / f"{self.name}.{self._number}.jsonl")
            self._size = 0
        try:
            if os.write(self._segment, data) != len(data):
                raise OSError("only a part of a line could be written")  # noqa: TRY301
        except OSError:
            os.ftruncate(self._segment, self._size)
            raise
        self._size += len(data)
        if self._size >= SEGMENT:
            self._close_segment()

    def _close_segment(self) -> None:
        if self._segment >= 0:
            os.close(self._segment)
            self._segment = -1

    def start(self) -> None:
        """Start the thread, once; it first moves what earlier processes left."""
        with self._lock:
            if self._thread is None:
                self._written.set()
                self._thread = threading.Thread(target=self._keep_moving, name="download-log", daemon=True)
                self._thread.start()

    def _keep_moving(self) -> None:
        while self.is_ours():
            self._written.wait()
            self._written.clear()
            time.sleep(PAUSE)
            try:
                ingest()
                done = not self._owed
            except Exception as error:
                done = False
                log.warning(
                    "Downloads stay in the journal for now: %s", " ".join(str(error).split()) or repr(error)
                )
            finally:
                with suppress(Exception):
                    connection.close()
            if not done:
                self._written.set()
                time.sleep(AGAIN)


def open_locked(path: Path) -> int:
    """Return a new file that we have locked and that still has its name: a mover could take an empty one for abandoned."""
    while True:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if os.fstat(opened).st_nlink:
                return opened
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)


_current: Journal | None = None
_background = False
_making = threading.Lock()


def _current_journal() -> Journal:
    global _current
    if _current is None or not _current.is_ours():
        with _making:
            if _current is None or not _current.is_ours():
                _current = Journal(rows.folder())
                if _background:
                    _current.start()
    return _current
