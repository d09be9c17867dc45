"""Send timed requests over HTTP, one after another; list the portal's processes with their memory."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from portal.embedded.prepare import CHECKOUT
from portal.embedded.supervisor import Supervisor
from tests.bench.errors import BenchError

LONGEST = 30.0  # seconds that one answer may take
TIMES = 9
SLOW = 2.0  # seconds; slower pages are only requested three times
COOKIE = "gatehouse_session"


@dataclass(frozen=True)
class Timed:
    """How long answers took, in milliseconds; `status` is 200, the first error, or 0 after a timeout."""

    milliseconds: list[float] = field(default_factory=list)
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def longest(self) -> float:
        return max(self.milliseconds)


def timed(address: str, method: str, path: str, headers: dict[str, str]) -> Timed:
    """Send one uncounted request, then several timed ones; stop at an error or a timeout."""
    found: list[float] = []
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=LONGEST)) as connection:
        times = TIMES
        while len(found) <= times:
            began = time.perf_counter()
            try:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                return Timed([1000 * (time.perf_counter() - began)], 0)
            found.append(1000 * (time.perf_counter() - began))
            if answer.status != 200:
                return Timed(found, answer.status, body)
            if found[-1] > 1000 * SLOW:
                times = min(times, 3)
    return Timed(found[1:], 200, body, dict(answer.headers))


def session(cookie: str) -> dict[str, str]:
    """Return the headers of a signed-in browser."""
    return {"Cookie": f"{COOKIE}={cookie}", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"}


def bearer(secret: str) -> dict[str, str]:
    """Return the headers of a client with a token."""
    return {"Authorization": f"Bearer {secret}", "User-Agent": "huggingface_hub/1.2.0"}


def order(environment: dict[str, str], what: str, *, within: float = 900, **arguments: Any) -> dict[str, Any]:
    """Run a step in another process with the portal's environment.

    Return its answer, empty after `within` seconds.
    """
    command = [sys.executable, "-m", "tests.bench.scale.work", what]
    try:
        done = subprocess.run(
            command, env=environment, cwd=CHECKOUT, input=json.dumps(arguments), capture_output=True, text=True,
            timeout=within,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {}
    if done.returncode:
        raise BenchError(f"{what} failed: {done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def end_statements(portal: Supervisor) -> None:
    """Stop database statements whose answers no longer matter."""
    assert portal.servers.postgres is not None
    with psycopg.connect(portal.servers.postgres.owner_dsn(), autocommit=True) as owner:
        owner.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND query_start < now() - interval '20 seconds'"
        )


@dataclass(frozen=True)
class Process:
    """One of the portal's processes, sizes in MiB; `pss` is 0 if we may not read it."""

    part: str
    pid: int
    rss: float
    pss: float
    peak: float


def processes(portal: Supervisor) -> list[Process]:
    """Return all of the portal's processes with their memory."""
    children = _children()
    roots = [(part.name, part.child.pid) for part in portal.parts if part.child is not None]
    roots += [
        (server.child.name, server.child.pid) for server in portal.servers.own if server.child is not None
    ]
    found = []
    for name, root in roots:
        todo = [root]
        while todo:
            pid = todo.pop()
            todo += children.get(pid, [])
            if (one := _process(name, pid)) is not None:
                found.append(one)
    return found


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            found.setdefault(parent, []).append(int(entry.name))
    return found


def _process(part: str, pid: int) -> Process | None:
    try:
        status = _fields(Path(f"/proc/{pid}/status"))
    except OSError:
        return None
    if "VmRSS" not in status:
        return None
    try:
        pss = _fields(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0.0)
    except OSError:
        pss = 0.0
    return Process(part, pid, status["VmRSS"], pss, status["VmHWM"])


def _fields(path: Path) -> dict[str, float]:
    """Return the sizes in a file of `/proc`, converted from kB to MiB."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if value.strip().endswith("kB"):
            found[name] = int(value.split()[0]) / 1024
    return found
