"""What a running job and the one who watches it share: bytes done, and the wish to stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Any

from model_ops.recovery.errors import Cancelled

Report = Callable[[int, int, str], None]
_TICK = 0.1  # seconds between looks at the clock and at cancellation


class Control:
    """Thread-safe. `report(bytes_done, bytes_total, shard)` is called from the waiting thread only."""

    def __init__(self, report: Report | None = None, interval: float = 1.0) -> None:
        self._report, self._interval, self._last = report, interval, 0.0
        self._lock = threading.Lock()
        self._cancelled, self._stopped = threading.Event(), threading.Event()
        self.bytes_done = self.bytes_total = self.bytes_read = self.bytes_written = 0
        self.shard = ""
        self._parent: int | None = None
        self._ending, self._at_once = threading.Lock(), True

    def set_report(self, report: Report) -> None:
        """Whom to tell from now on."""
        self._report = report

    def follow(self, parent: int) -> None:
        """Cancel as soon as process `parent` is no longer this one's parent."""
        self._parent = parent

    def cancel(self) -> None:
        """Ask for an end at the next block; safe in a signal handler."""
        self._cancelled.set()

    def interrupt(self, leave: Callable[[], None]) -> None:
        """As `cancel`; until `end_in_order` was called, `leave` ends the process where it stands."""
        self.cancel()
        with self._ending:
            if self._at_once:
                leave()

    def end_in_order(self) -> None:
        """From now on, let an interrupt wait for the next block, so that no message is printed twice."""
        with self._ending:
            self._at_once = False

    def stop(self) -> None:
        """Another part failed; end quietly."""
        self._stopped.set()

    def check(self) -> None:
        """Raise Cancelled when an end was asked for."""
        if self._cancelled.is_set() or self._stopped.is_set():
            raise Cancelled

    def advance(self, done: int, shard: str) -> None:
        """`done` more bytes of output exist."""
        with self._lock:
            self.bytes_done += done
            self.shard = shard

    def count(self, *, read: int = 0, written: int = 0) -> None:
        """Bytes that went through the disk in this run."""
        with self._lock:
            self.bytes_read += read
            self.bytes_written += written

    def tick(self, *, final: bool = False) -> None:
        """Report progress, at most once per interval; the last time always."""
        now = time.monotonic()
        if self._parent is not None and os.getppid() != self._parent:
            self.cancel()
        if self._report and (final or now - self._last >= self._interval):
            self._last = now
            try:
                self._report(min(self.bytes_done, self.bytes_total), self.bytes_total, self.shard)
            except OSError:  # nobody reads it any more
                self._report = None

    def pause(self) -> None:
        """Wait a moment for another process; raises Cancelled like `check`."""
        self.check()
        self._cancelled.wait(_TICK)
        self.check()

    def gather(self, futures: list[Future[Any]]) -> list[Any]:
        """Results in order; on the first failure the others are stopped and it is raised."""
        try:
            self._watch_futures(set(futures))
        except BaseException:
            self.stop()
            for future in futures:
                future.cancel()
            wait(futures)
            raise
        return [future.result() for future in futures]

    def _watch_futures(self, pending: set[Future[Any]]) -> None:
        """Wait for all; raise the first failure, and Cancelled only if nothing else failed."""
        while pending:
            done, pending = wait(pending, timeout=_TICK, return_when=FIRST_EXCEPTION)
            self.tick()
            errors = [error for future in done if (error := future.exception())]
            if errors or self._cancelled.is_set():
                real = [error for error in errors if not isinstance(error, Cancelled)]
                raise real[0] if real else Cancelled
