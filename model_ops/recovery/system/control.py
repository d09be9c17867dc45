"""The state shared by a running job and its watcher: bytes done, and the request to stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Any

from model_ops.recovery.errors import Cancelled

Report = Callable[[int, int, str], None]
_TICK = 0.1  # seconds between checks of the clock and of cancellation


class Control:
    """The progress and cancellation of a job.

    Thread-safe; only the waiting thread calls `report(done, total, shard)`.
    """

    def __init__(self, report: Report | None = None, interval: float = 1.0) -> None:
        self._report, self._interval, self._last = report, interval, 0.0
        self._lock = threading.Lock()
        self._cancelled, self._stopped = threading.Event(), threading.Event()
        self.bytes_done = self.bytes_total = self.bytes_read = self.bytes_written = 0
        self.shard = ""
        self._parent: int | None = None
        self._ending, self._at_once = threading.Lock(), True

    def set_report(self, report: Report) -> None:
        """Set the function that gets reports from now on."""
        self._report = report

    def follow(self, parent: int) -> None:
        """Cancel as soon as process `parent` is no longer this process's parent."""
        self._parent = parent

    def cancel(self) -> None:
        """Request a stop at the next block; safe in a signal handler."""
        self._cancelled.set()

    def interrupt(self, leave: Callable[[], None]) -> None:
        """Cancel; until `end_in_order` is called, also call `leave`, which ends the process at once."""
        self.cancel()
        with self._ending:
            if self._at_once:
                leave()

    def end_in_order(self) -> None:
        """From now on, let an interrupt wait for the next block, so that no message is printed twice."""
        with self._ending:
            self._at_once = False

    def stop(self) -> None:
        """Stop quietly, because another part failed."""
        self._stopped.set()

    def check(self) -> None:
        """Raise Cancelled if a stop was requested."""
        if self._cancelled.is_set() or self._stopped.is_set():
            raise Cancelled

    def advance(self, done: int, shard: str) -> None:
        """Count `done` more bytes of output."""
        with self._lock:
            self.bytes_done += done
            self.shard = shard

    def count(self, *, read: int = 0, written: int = 0) -> None:
        """Count bytes read from or written to the disk in this run."""
        with self._lock:
            self.bytes_read += read
            self.bytes_written += written

    def tick(self, *, final: bool = False) -> None:
        """Report progress, at most once per interval; with `final`, always."""
        now = time.monotonic()
        if self._parent is not None and os.getppid() != self._parent:
            self.cancel()
        if self._report and (final or now - self._last >= self._interval):
            self._last = now
            try:
                self._report(min(self.bytes_done, self.bytes_total), self.bytes_total, self.shard)
            except OSError:  # no one reads it any more
                self._report = None

    def pause(self) -> None:
        """Wait a moment for another process. Raises Cancelled like `check`."""
        self.check()
        self._cancelled.wait(_TICK)
        self.check()

    def gather(self, futures: list[Future[Any]]) -> list[Any]:
        """Return the results in order. On the first failure, stop the others and raise it."""
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
