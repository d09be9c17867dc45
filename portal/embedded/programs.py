"""The programs that run next to the portal's servers: their commands, and the supervisor's record of each."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portal.embedded.prepare import CHECKOUT
from portal.embedded.processes import Child

PRIVATE = str(
    CHECKOUT / "portal" / "private.py"
)  # by its path, so that none of our packages needs to be importable
WARM_THEN_COLD = (signal.SIGTERM, signal.SIGQUIT)
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
HUNG_AFTER = 60.0  # seconds without a sign; the clock exits earlier by itself, if it still can
LIFELINE = "GATEHOUSE_LIFELINE"  # as portal.draining names it


@dataclass
class Part:
    """One program of the portal: how it stops, and when it may be restarted after a crash."""

    name: str
    command: list[str]
    stop_signals: tuple[int, ...] = WARM_THEN_COLD
    death_signal: int = signal.SIGKILL
    pass_fds: tuple[int, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)  # variables in addition to those in portal.parts
    drains: bool = False  # what remains after its death keeps answering, next to its successor
    sign: Path | None = None  # a file that it touches regularly
    child: Child | None = None
    pause: float = SHORTEST_PAUSE
    not_before: float = 0.0
    signed: tuple[float, float] = (0.0, 0.0)  # the file's time, and when we first saw it

    def count_start(self) -> None:
        """Make the next restart wait twice as long as this one did."""
        now = time.monotonic()
        self.not_before, self.signed = now + self.pause, (self._last_touched(), now)
        self.pause = min(self.pause * 2, LONGEST_PAUSE)

    def settle(self) -> None:
        """Reset the pause of a part that has run for a while, so that it restarts at once if it dies."""
        if time.monotonic() > self.not_before + LONGEST_PAUSE:
            self.pause = SHORTEST_PAUSE

    def is_well(self) -> bool:
        """Return whether it is alive and, if it gives signs of life, gave one recently."""
        if self.child is None or not self.child.alive():
            return False
        touched, now = self._last_touched(), time.monotonic()
        if touched != self.signed[0]:
            self.signed = touched, now
        return self.sign is None or now - self.signed[1] <= HUNG_AFTER

    def has_ended(self) -> bool:
        """Kill what is left of a part that is not well, without waiting; return True once all of it is gone.

        Remains of a killed part could do its work a second time, next to the new one.
        """
        if self.child is None or (self.drains and not self.child.alive()):
            return True
        return self.child.end()

    def _last_touched(self) -> float:
        try:
            return self.sign.stat().st_mtime if self.sign else 0.0
        except OSError:
            return 0.0


def python(*arguments: str) -> list[str]:
    """Return a command: this Python on a module or script, without the current folder on its path."""
    return [sys.executable, "-P", *arguments]


def worker_command(queue: str, *, processes: int) -> list[str]:
    """Return the command of one queue's Celery worker."""
    return python(
        PRIVATE, "celery", "-A", "portal.celery", "worker", "-Q", queue, "-c", str(processes), "-n", f"{queue}@%h",
        "-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat",
    )  # fmt: skip


def beat_command(sign: Path) -> list[str]:
    """Return the command of the clock, which touches `sign` (see `portal.clock`)."""
    return python(PRIVATE, "celery", "-A", "portal.celery", "beat", "-s", str(sign), "-l", "INFO")


def web_command(descriptor: int, *, scratch: Path) -> list[str]:
    """Return the command of gunicorn with threads, on a socket that is already open."""
    memory = Path("/dev/shm")  # noqa: S108 - gunicorn's own choice for its worker's sign of life
    return python(
        PRIVATE, "gunicorn", "portal.wsgi:application", "-c", "python:portal.webserver", "--bind", f"fd://{descriptor}",
        "--graceful-timeout", "2", "--worker-tmp-dir", str(memory if os.access(memory, os.W_OK) else scratch),
    )  # fmt: skip


def make_parts(descriptor: int, lifeline: int, run: Path) -> list[Part]:
    """Return the parts in starting order; the pages wait only for the first three."""
    clock = run / "clock"
    return [
        Part(
            "web", web_command(descriptor, scratch=run), death_signal=signal.SIGQUIT, drains=True,
            pass_fds=(descriptor, lifeline), extra={LIFELINE: str(lifeline)},
        ),
        Part("worker-default", worker_command("default", processes=2)),
        Part("beat", beat_command(clock), (signal.SIGTERM,), sign=clock),
        Part("worker-mail", worker_command("mail", processes=1)),
        Part("worker-remote", worker_command("remote", processes=2)),
        Part("worker-recovery", worker_command("recovery", processes=1)),
    ]  # fmt: skip
