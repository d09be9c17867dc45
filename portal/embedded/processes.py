"""Child processes that die with us, and processes that an earlier supervisor left running."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from portal.embedded.errors import StartError
from portal.embedded.identity import PLAIN, Identity
from portal.private import OWNER_ALONE

WRAPPER = Path(__file__).with_name("_exec.py")
PROC = Path("/proc")
LOG_LIMIT = 10 * 1024 * 1024


def wrapped(command: Sequence[str], *, identity: Identity, death_signal: int) -> list[str]:
    """Return the command line that runs `command` as `identity` and sends it `death_signal` when we die."""
    who = [identity.mode, str(identity.uid), str(identity.gid)]
    return [
        sys.executable, "-I", "-S", str(WRAPPER), str(os.getpid()), str(int(death_signal)), *who, *command,
    ]  # fmt: skip


class Child:
    """One child process in its own session, its output appended to a log file.

    The kernel sends the death signal when the *thread* that started the child ends, so start a child from the
    main thread or from a thread that lives as long as the child should.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path = Path("/"),
        identity: Identity = PLAIN,
        stop_signals: Sequence[int] = (signal.SIGTERM,),
        death_signal: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name, self.log, self.stop_signals = name, log, tuple(stop_signals)
        self._is_gone = False
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        cap_log(log)
        with open_log(log) as output:
            self.log_start = output.tell()
            self.process = subprocess.Popen(
                wrapped(command, identity=identity, death_signal=death_signal or self.stop_signals[-1]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                umask=OWNER_ALONE,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def ask_to_stop(self, number: int | None = None) -> None:
        """Send the first stop signal (or `number`), unless the child has already ended."""
        if self.alive():
            with suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signals[0] if number is None else number)

    def wait(self, timeout: float) -> bool:
        """Return whether it ended within `timeout` seconds."""
        try:
            self.process.wait(max(timeout, 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, *, patience: float = 5.0) -> None:
        """Send the stop signals one after another, `patience` seconds apart, then kill the session."""
        for number in self.stop_signals:
            self.ask_to_stop(number)
            if self.wait(patience):
                break
        if not self._is_gone:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> bool:
        """Kill the process and its session, without waiting; return whether all of it is gone.

        Once it is gone, nothing more is killed: its number may belong to another process by then.
        """
        if not self._is_gone:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._is_gone = not self.alive() and not in_session(self.pid)
        return self._is_gone

    def last_words(self) -> str:
        """Return why it ended: a refused setting in its log since this start, or else the last line there."""
        return self.refusal() or next(
            (line for line in reversed(self._log_lines()) if line), "it said nothing"
        )

    def refusal(self) -> str:
        """Return what its log says, since this start, about a setting that it cannot read, or ""."""
        refused = next((line for line in self._log_lines() if "ImproperlyConfigured: " in line), "")
        return refused.partition("ImproperlyConfigured: ")[2]

    def _log_lines(self) -> list[str]:
        with self.log.open("rb") as output:
            output.seek(self.log_start)
            return [line.strip() for line in output.read().decode(errors="replace").splitlines()]


def wait_until(ready: Callable[[], bool], child: Child, *, what: str, timeout: float = 60.0) -> None:
    """Wait until `ready()`. Raise `StartError` if the child ends before that or takes too long."""
    deadline = time.monotonic() + timeout
    while not ready():
        if not child.alive():
            raise StartError(f"{what} did not start: {child.last_words()} (the log is {child.log}).")
        if time.monotonic() > deadline:
            child.stop()
            raise StartError(f"{what} was not ready within {timeout:.0f} s: see {child.log}.")
        time.sleep(0.02)


def open_log(log: Path) -> BinaryIO:
    """Open a log file for appending, readable only by its owner from the first byte."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    output = os.fdopen(descriptor, "ab")
    output.seek(0, os.SEEK_END)
    return output


def cap_log(log: Path, limit: int = LOG_LIMIT) -> None:
    """Copy a log larger than `limit` to NAME.1 and empty it, even if no copy can be made, as on a full disk.

    Its writer keeps it open.
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            old = log.with_name(log.name + ".1")
            try:
                old.unlink(missing_ok=True)
                with open_log(old) as copy, log.open("rb") as full:
                    shutil.copyfileobj(full, copy)
            except OSError:
                with suppress(OSError):
                    old.unlink(missing_ok=True)
            os.truncate(log, 0)


def running_in(folder: Path, names: Iterable[str]) -> list[int]:
    """Return the processes with one of these names and `folder` as working folder: servers on its data."""
    folder, names, found = folder.resolve(), set(names), []
    for entry in _process_folders():
        with suppress(OSError):
            if (entry / "comm").read_text().strip() in names and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found


def running_with(variable: str, value: str) -> list[int]:
    """Return the processes with this mark, except ourselves: in a Python option or in their environment.

    Parts that contain secrets close their environment to us as well (`portal.private`), and their children
    may have a different command line.
    """
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in _process_folders():
        words: list[bytes] = []
        for name in ("cmdline", "environ"):
            with suppress(OSError):  # gone, or not readable for us
                words += (entry / name).read_bytes().split(b"\0")
        if wanted in words and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def in_session(leader: int) -> list[int]:
    """Return the live processes of a session, even if its leader has ended; zombies do not count."""
    found = []
    for entry in _process_folders():
        with suppress(OSError):
            state, _, _, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(session) == leader and state not in "ZX":
                found.append(int(entry.name))
    return found


def marked(command: Sequence[str], variable: str, value: str) -> list[str]:
    """Return a Python command line with the mark that `running_with` finds.

    Python itself ignores the option.
    """
    return [command[0], "-X", f"{variable}={value}", *command[1:]]


def _process_folders() -> list[Path]:
    return [entry for entry in PROC.iterdir() if entry.name.isdigit()] if PROC.is_dir() else []


def stop_leftovers(find: Callable[[], list[int]], *, signals: Sequence[int], patience: float = 5.0) -> None:
    """Stop what `find()` lists: send the signals in turn, `patience` seconds apart, then SIGKILL."""
    for number in (*signals, signal.SIGKILL):
        for pid in find():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while find():
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return
