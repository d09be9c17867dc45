"""Watch a process and its children from outside, through /proc: time, memory, bytes."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
_EVERY = 20  # milliseconds between two readings of the memory
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Watched:
    """The result of a watched process.

    `chars_read` counts bytes passed by read(), `disk_*` those that reached the disk.
    """

    status: int
    output: str
    errors: str
    wall: float
    cpu_user: float
    cpu_system: float
    peak_rss: int
    chars_read: int
    disk_read: int
    disk_written: int

    @property
    def cpu(self) -> float:
        """Return the seconds of CPU time, user and system together."""
        return self.cpu_user + self.cpu_system

    @property
    def last_line(self) -> str:
        """Return the last line of standard output, where the engine prints its JSON."""
        return (self.output.splitlines() or [""])[-1]

    @property
    def complaint(self) -> str:
        """Return the last line of standard error."""
        return (self.errors.strip().splitlines() or ["it said nothing"])[-1]


def python(*arguments: str) -> Watched:
    """Run a module of this checkout with this Python."""
    return watch([sys.executable, *arguments])


def watch(command: list[str]) -> Watched:
    """Run a command to its end. The counters in /proc are read before the ended process is reaped."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=CHECKOUT, env=environment
        )
        try:
            peak = _peak_until_end(process.pid)
            wall = time.monotonic() - started
            counters = _io_counters(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.terminate()
                process.wait()
        output.seek(0)
        errors.seek(0)
        return Watched(
            status=process.returncode,
            output=output.read(),
            errors=errors.read(),
            wall=wall,
            cpu_user=usage.ru_utime,
            cpu_system=usage.ru_stime,
            peak_rss=peak,
            chars_read=counters.get("rchar", 0),
            disk_read=counters.get("read_bytes", 0),
            disk_written=counters.get("write_bytes", 0),
        )


def _peak_until_end(pid: int) -> int:
    """Return the peak resident memory of the process and its descendants together, mapped files included."""
    peak = 0
    ended = select.poll()
    descriptor = os.pidfd_open(pid)
    try:
        ended.register(descriptor, select.POLLIN)
        while not ended.poll(_EVERY):
            peak = max(peak, sum(map(_rss, _family(pid))))
    finally:
        os.close(descriptor)
    return peak


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _family(int(child))


def _rss(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


def _io_counters(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:  # an old kernel, or one that hides them
        return {}
    return {name: int(value) for name, value in (line.split(":") for line in lines)}
