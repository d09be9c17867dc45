"""`./dev.py bench decisions`: how fast requests are decided and events appended, and what an import delays.

The database is a real one that flushes each commit to disk. The rates are measured with only PostgreSQL and
Valkey running; the import runs in a whole portal, whose worker polls a Hub that this process plays on
loopback.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from portal.embedded.prepare import CHECKOUT
from portal.embedded.supervisor import run_portal
from tests.bench.errors import BenchError
from tests.bench.site import temporary_state

CONNECTIONS = (1, 8, 32)
PAGE = 1000
FAR_ID = "bench/far"
LONGEST = 1.0  # seconds that a decision may wait during an import
PAGES = ("/", "/bench/near")


def main(arguments: list[str]) -> int:
    """Measure, print a line per figure, write them to `--json`; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="./dev.py bench decisions")
    parser.add_argument(
        "--requests", type=int, default=640, help="decisions for each number of connections; 0: none"
    )
    parser.add_argument(
        "--import", dest="imported", type=int, default=10_000, help="requests to import; 0: none"
    )
    parser.add_argument("--minutes", type=float, default=15, help="the longest that the import may take")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    chosen = parser.parse_args(arguments)
    figures: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "load": os.getloadavg()}}
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL"):
        os.environ.pop(name, None)
    if chosen.requests:
        with temporary_state() as state:
            figures["rates"] = rates(state, chosen.requests)
    if chosen.imported:
        with temporary_state() as state:
            figures["import"] = beside_import(state, chosen.imported, chosen.minutes * 60)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")
    return judged(figures)


def judged(figures: dict[str, Any]) -> int:
    """Return 0 if 32 connections are as fast as one, chains are whole and no decision waited too long."""
    made = figures.get("rates", {}).get("decisions", {})
    slower = bool(made) and made["32 processes"] < made["1 processes"]
    waited = figures.get("import", {}).get("longest decision", 0) > LONGEST
    broken = any(not figures[part]["chain"]["ok"] for part in ("rates", "import") if part in figures)
    return int(slower or waited or broken)


# --- rates ---


def rates(state: Path, count: int) -> dict[str, Any]:
    """Measure decisions and bare events a second, by processes with one connection each and by threads."""
    found: dict[str, Any] = {"decisions": {}, "events": {}}
    with database(state) as environment:
        seed = order(environment, "seed", count=(count + 32) * 2 * len(CONNECTIONS))
        ids = seed["requests"]
        for how in ("processes", "threads"):
            for number in CONNECTIONS:
                more = count + number  # includes what is done before the clock starts
                mine, ids = ids[:more], ids[more:]
                made = order(environment, "decide", how=how, number=number, requests=mine)
                events = order(environment, "append", how=how, number=number, count=more)
                name = f"{number} {how}"
                found["decisions"][name], found["events"][name] = made["rate"], events["rate"]
                say(
                    f"{name}: {made['rate']:.0f} decisions a second (longest {1000 * made['longest']:.0f} ms), "
                    f"{events['rate']:.0f} bare events a second"
                )
        found["chain"] = order(environment, "verify")
    say(f"chain of {found['chain']['events']} events: {'whole' if found['chain']['ok'] else 'BROKEN'}")
    return found


@contextmanager
def database(state: Path) -> Iterator[dict[str, str]]:
    """Start migrated PostgreSQL and Valkey, as users have them.

    Yield the environment of a process that uses them.
    """
    with run_portal(state) as portal:
        environment = dict(portal.environment)
    from portal.embedded.servers import servers

    with servers(state) as urls:
        yield environment | {"DATABASE_URL": urls.database_url, "REDIS_URL": urls.redis_url}


def order(environment: dict[str, str], what: str, **arguments: Any) -> dict[str, Any]:
    """Run a step in another process with the portal's environment; return its answer."""
    command = [sys.executable, "-m", "tests.bench.decisions_work", what]
    done = subprocess.run(
        command, env=environment, cwd=CHECKOUT, input=json.dumps(arguments), capture_output=True, text=True
    )
    if done.returncode:
        raise BenchError(f"{what} failed: {done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# --- during an import ---


class Hub(ThreadingHTTPServer):
    """A Hub whose repository has this many pending requests."""

    def __init__(self, count: int) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.count = count

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        """Send one page of a list, with a link to the next one."""
        parts = urlsplit(self.path)
        first = int(parse_qs(parts.query).get("from", ["0"])[0])
        last = min(first + PAGE, self.server.count)
        entries = [entry(number) for number in range(first, last)] if parts.path.endswith("/pending") else []
        more = bool(entries) and last < self.server.count
        body = json.dumps(entries).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if more:
            link = f"{self.server.endpoint}{parts.path}?limit={PAGE}&from={last}"
            self.send_header("Link", f'<{link}>; rel="next"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def entry(number: int) -> dict[str, Any]:
    """Return a pending request as the Hub's list shows it."""
    return {
        "requestId": f"{number:024x}",
        "user": {"_id": f"{number:024x}", "user": f"person-{number}", "fullname": f"Person {number}"},
        "status": "pending",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "fields": {"Why": "To study it."},
    }


def beside_import(state: Path, count: int, most: float) -> dict[str, Any]:
    """Measure the longest decision and the longest page while a portal imports this many requests."""
    with Hub(count) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        tokens = {"GATEHOUSE_FOLLOW_TOKENS": f"{hub.endpoint}=hf_bench"}
        with run_portal(state, extra_env=tokens) as portal:
            seed = order(portal.environment, "seed", count=20_000)
            began = time.perf_counter()
            order(portal.environment, "follow", endpoint=hub.endpoint, far_id=FAR_ID)
            with pages(portal.address) as seen:
                found = order(
                    portal.environment, "decide_beside", requests=seed["requests"], imported=count, most=most
                )
            found["seconds"] = time.perf_counter() - began
            found["longest page"] = max(seen, default=0.0)
            found["chain"] = order(portal.environment, "verify")
        hub.shutdown()
    say(
        f"import of {found['imported']} requests: {found['seconds']:.0f} s; beside it {found['decisions']} decisions, "
        f"longest {1000 * found['longest decision']:.0f} ms; {len(seen)} pages, "
        f"longest {1000 * found['longest page']:.0f} ms"
    )
    return found


@contextmanager
def pages(address: str) -> Iterator[list[float]]:
    """Open pages one after another in a thread; collect how many seconds each took."""
    seconds: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            for path in PAGES:
                started = time.perf_counter()
                with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)) as connection:
                    connection.request("GET", path)
                    connection.getresponse().read()
                seconds.append(time.perf_counter() - started)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seconds
    finally:
        done.set()
        looking.join()


def say(line: str) -> None:
    print(line, flush=True)
