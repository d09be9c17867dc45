"""Kill processes of a running portal at random, and find those that are left."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from portal.embedded.processes import running_with
from portal.embedded.supervisor import RUN_MARK

KINDS = (
    "gunicorn",
    " beat ",
    "-n default@",
    "-n mail@",
    "-n remote@",
    "-n recovery@",
    "model_ops.recovery",
    "postgres",
    "valkey",
)


def processes(state: Path) -> dict[int, str]:
    """Return the processes of the portal on this state folder, servers included, with their command lines."""
    mark = (state / "run" / "mark").read_text()
    found = {*running_with(RUN_MARK, mark), *server_processes(state)}
    return {pid: line for pid in found if pid != os.getpid() and (line := command_line(pid))}


def server_processes(state: Path) -> list[int]:
    """Return the processes running in the servers' folders: PostgreSQL with its children, and Valkey."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            folder = (entry / "cwd").readlink() if entry.name.isdigit() else None
            if folder is not None and folder.is_relative_to(state) and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def kind_of(line: str) -> str:
    """Return which part of the portal a command line belongs to, or "other"."""
    return next((kind for kind in KINDS if kind in line), "other")


class Killer:
    """Kills one process after another with SIGKILL, from a part chosen at random, until `stop`."""

    def __init__(self, state: Path, *, seed: int, pauses: tuple[float, float] = (1.0, 6.0)) -> None:
        self.state, self.pauses, self.random = state, pauses, random.Random(seed)
        self.killed: Counter[str] = Counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._kill, name="killer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._done.wait(self.random.uniform(*self.pauses)):
            self.kill_one()

    def kill_one(self) -> None:
        """Kill a process; each part is equally likely, however many processes it has."""
        by_kind: dict[str, list[int]] = {}
        for pid, line in sorted(processes(self.state).items()):
            by_kind.setdefault(kind_of(line), []).append(pid)
        if by_kind:
            kind = self.random.choice(sorted(by_kind))
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(by_kind[kind]), signal.SIGKILL)
                self.killed[kind] += 1
