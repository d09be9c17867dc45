"""The test's side of `driver.py`: one client, its home, and its runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.clients.environments import client, client_environment

DRIVER = Path(__file__).with_name("driver.py")
KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
)  # no variables set by an agent or a terminal: they change what `hf` prints


@dataclass(frozen=True)
class Run:
    """A command or program that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return the last line of output, parsed as JSON."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def said(self) -> str:
        """Return all output on one line, since `hf` wraps its lines."""
        return " ".join((self.stdout + self.stderr).split())


class Running:
    """A command that runs while the test does something else."""

    def __init__(self, driver: Driver, pid: int, folder: Path) -> None:
        self.driver, self.pid, self.folder = driver, pid, folder

    def stdout(self) -> str:
        return (self.folder / "stdout").read_text() if (self.folder / "stdout").exists() else ""

    def until(self, what: Callable[[str], Any], seconds: float = 120) -> Any:
        """Return the first true answer of `what` about the output so far."""
        deadline = time.monotonic() + seconds
        while not (answer := what(self.stdout())):
            assert time.monotonic() < deadline, self.stdout() + (self.folder / "stderr").read_text()
            time.sleep(0.05)
        return answer

    def wait(self) -> Run:
        status = self.driver.ask(op="wait", pid=self.pid)["status"]
        return Run(status, self.stdout(), (self.folder / "stderr").read_text())


class Driver:
    """A client that waits for orders."""

    def __init__(self, version: str, *, endpoint: str, folder: Path, **environment: str) -> None:
        self.version, self.folder = version, folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        wanted = client_environment(
            endpoint=endpoint, home=self.home, NO_COLOR="1", COLUMNS="200", **environment
        )
        kept = {
            name: value
            for name, value in wanted.items()
            if name in KEPT or name in environment or name.startswith(("HF_", "NO_COLOR", "COLUMNS"))
        }
        self.numbers = count()
        self.process = subprocess.Popen(
            [str(client(version)), str(DRIVER)],
            env=kept | {"HOME": str(folder)}, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._answer() == {"version": version}

    def ask(self, **order: Any) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the driver of {self.version} ended"
        return json.loads(line)

    def start(self, *argv: str, code: str = "", token: str | None = None, **environment: str) -> Running:
        """Start the `hf` command with these arguments, or a program; without a token none is set."""
        folder = self.folder / f"run-{next(self.numbers)}"
        folder.mkdir()
        what: dict[str, Any] = {"code": code} if code else {"argv": argv}
        given = environment | ({"HF_TOKEN": token} if token else {})
        pid = self.ask(op="start", folder=str(folder), environment=given, **what)["pid"]
        return Running(self, pid, folder)

    def hf(self, *argv: str, token: str | None = None, **environment: str) -> Run:
        return self.start(*argv, token=token, **environment).wait()

    def python(self, code: str, *, token: str | None = None, **environment: str) -> Run:
        return self.start(code=code, token=token, **environment).wait()

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
