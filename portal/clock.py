"""Celery beat's schedule: in memory, with a sign of life that its supervisor can see.

No file stores the times of last runs: a file cut short by a kill would stop beat at every start. Everything
is due when beat starts, and every periodic task may run twice at once, so two clocks do no harm.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import Scheduler

from portal import signs

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds
HUNG_AFTER = 45  # seconds without a turn, after which the clock exits, to be started again
EARLIER = timedelta(days=365)  # longer than any interval


class Clock(Scheduler):
    """A schedule that touches the file named by `--schedule` at every turn."""

    def __init__(
        self, app: Celery, *, schedule_filename: str = "", lazy: bool = False, **options: Any
    ) -> None:
        self.file = Path(schedule_filename) if schedule_filename else None
        self.signed = float("-inf")
        super().__init__(app, lazy=lazy, **options)

    def setup_schedule(self) -> None:
        """Make everything due at once."""
        super().setup_schedule()
        for entry in self.schedule.values():
            entry.last_run_at = entry.default_now() - EARLIER

    def tick(self, *args: Any, **options: Any) -> float:
        """Touch the file, send what is due, and return the seconds until the next turn."""
        self.sign()
        return min(float(super().tick(*args, **options)), LOOK_EVERY)

    def sign(self) -> None:
        """Touch the file, postpone the exit of a hung clock, and sign for /healthz every few seconds."""
        with suppress(OSError, ValueError):  # no such folder, or standard error is not a file
            faulthandler.dump_traceback_later(HUNG_AFTER, exit=True, file=sys.__stderr__ or sys.stderr)
            if self.file is not None:
                self.file.touch(mode=0o600)
        if time.monotonic() - self.signed > signs.EVERY:
            self.signed = time.monotonic()
            signs.sign(signs.CLOCK)

    def close(self) -> None:
        """Stop the clock and its watchdog, which would end a process that lives on as hung."""
        faulthandler.cancel_dump_traceback_later()
        super().close()

    def _ensure_connected(self) -> Any:
        """Connect as Celery does, with a sign of life at each attempt.

        A clock waiting for its broker is not hung.
        """

        def again(error: Exception, seconds: float) -> None:
            self.sign()
            log.warning("The broker is away, trying again in %.0f s: %s", seconds, error)

        return self.connection.ensure_connection(again, None)  # type: ignore[arg-type]  # None: for ever
