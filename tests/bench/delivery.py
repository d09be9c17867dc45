"""`./dev.py bench delivery`: throughput next to nginx alone, what the gate costs, and page times.

All on loopback, with a portal in a temporary state folder; clients and servers share the machine's cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import truediv
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portal.embedded.prepare import CHECKOUT
from portal.embedded.programs import web_command
from portal.embedded.supervisor import run_portal
from tests.bench.delivery_targets import judged
from tests.bench.errors import BenchError
from tests.bench.site import temporary_state
from tests.nginx import free_port, main_options, missing, nginx_environment, running_nginx, search_path

PAGES = ("/", "/bench/weights", "/api/models/bench/weights")
SLOW_PIECE, SLOW_PAUSE = 16_384, 0.1  # bytes and seconds: what a slow client takes, and how often
PLAIN = """worker_processes auto; pid {run}/plain.pid; error_log stderr; events {{ worker_connections 1024; }}
http {{ sendfile on; tcp_nopush on; access_log off; client_body_temp_path {run}/b; proxy_temp_path {run}/p;
fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""


@dataclass
class Site:
    """Where the servers are, and what can be downloaded."""

    own: str
    nginx: str
    plain: str
    own_pid: int
    nginx_pid: int
    seeded: dict[str, Any]

    @property
    def large(self) -> str:
        return f"{self.seeded['path']}/{self.seeded['large']}"

    def token(self, number: int = 0) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.seeded['tokens'][number]}"}


def main(arguments: list[str]) -> int:
    """Measure, print one line for each figure, and write them to `--json`."""
    parser = argparse.ArgumentParser(prog="./dev.py bench delivery")
    parser.add_argument("--size", type=int, default=1024, help="the large file, in MiB")
    parser.add_argument("--rounds", type=int, default=7, help="whole downloads each way")
    parser.add_argument(
        "--requests", type=int, default=3000, help="requests from which the gate's cost is taken"
    )
    parser.add_argument(
        "--files-each", type=int, default=50, help="small files that each of 200 clients takes"
    )
    parser.add_argument("--json", type=Path, help="a file for the figures")
    chosen = parser.parse_args(arguments)
    if name := missing():
        raise BenchError(f"{name} is not here, and there is nothing to compare with: install nginx-light.")
    with temporary_state() as state, site(state, chosen) as running:
        figures = {
            "machine": {"cores": os.cpu_count(), "load": os.getloadavg()},
            "throughput": throughput(running, rounds=chosen.rounds),
            "gate": gate(running, requests=chosen.requests),
            "slow clients": slow_clients(running),
            "small files": small_files(running, each=chosen.files_each),
        }
    show(figures)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")
    return judged(figures)


@contextmanager
def site(state: Path, chosen: argparse.Namespace) -> Iterator[Site]:
    """Start servers and workers as users have them, a web server per mode, nginx in front, and nginx alone."""
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL"):
        os.environ.pop(name, None)
    off = {"GATEHOUSE_TOKEN_RATE": "0", "GATEHOUSE_ADDRESS_RATE": "0", "GATEHOUSE_ANONYMOUS_RATE": "0"}
    with ExitStack() as stack:
        portal = stack.enter_context(run_portal(state, extra_env=off))
        seed = [sys.executable, "-m", "tests.bench.delivery_seed", str(chosen.size), "1000", "200"]
        made = subprocess.run(
            seed, env=portal.environment, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-nginx-")))
        own, own_pid = stack.enter_context(web(state, portal.environment))
        settings = {
            "GATEHOUSE_DELIVERY": "nginx",
            "GATEHOUSE_NGINX_LOG": str(folder / "log" / "downloads.log"),
        }
        behind, nginx_pid = stack.enter_context(web(state, portal.environment | settings))
        store = state / "weights"
        environment = nginx_environment(folder, port=free_port(), portal=behind, store=store)
        front = stack.enter_context(running_nginx(environment))
        plain = stack.enter_context(plain_nginx(folder, store))
        yield Site(f"http://{own}", front.url, plain, own_pid, nginx_pid, json.loads(made.stdout))


@contextmanager
def web(state: Path, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Start gunicorn as the supervisor does.

    Yield its address and its main process, whose children answer requests.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        (state / "logs" / "bench.log").open("ab") as log,
    ):
        process = subprocess.Popen(
            web_command(listening.fileno(), scratch=state), cwd=CHECKOUT, env=environment,
            stdout=log, stderr=log, pass_fds=[listening.fileno()],
        )  # fmt: skip
        try:
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            asked(address, "GET", "/robots.txt")
            yield address, process.pid
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def plain_nginx(folder: Path, root: Path) -> Iterator[str]:
    """Start an nginx that sends the same files without the gate."""
    port, conf = free_port(), folder / "plain.conf"
    conf.write_text(PLAIN.format(run=folder / "run", port=port, root=root))
    command = ["nginx", "-e", "stderr", "-c", str(conf), "-g", main_options()]
    process = subprocess.Popen(command, env={"PATH": search_path()})
    try:
        time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def asked(address: str, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- throughput -----------------------------------------------------------------------------------------


def throughput(running: Site, *, rounds: int) -> dict[str, Any]:
    """Read whole files in turn and discard them; the first round, which fills the page cache, is not counted.

    Each way's share of nginx alone is computed within each round, and the median reported.
    """
    blob = Path(running.seeded["blob"])
    ways = {
        "nginx alone": f"{running.plain}/blobs/{blob.parent.name}/{blob.name}",
        "own": running.own + running.large,
        "nginx": running.nginx + running.large,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, url in ways.items():
            rate = download(url, running)
            if turn:
                rates[name].append(rate)
    alone = rates["nginx alone"]
    return {
        name: {
            "megabytes a second": round(statistics.median(found) / 1e6),
            "of nginx alone": round(statistics.median(map(truediv, found, alone)), 3),
            "rounds": [round(rate / 1e6) for rate in found],
        }
        for name, found in rates.items()
    }


def download(url: str, running: Site) -> float:
    """Return the bytes a second that curl measured."""
    header = f"Authorization: Bearer {running.seeded['tokens'][0]}"
    said = "%{http_code} %{size_download} %{time_total}"
    command = ["curl", "-sS", "-o", "/dev/null", "-w", said, "-H", header, url]
    code, size, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if (code, int(size)) != ("200", running.seeded["size"]):
        raise BenchError(f"{url} answered {code} with {size} bytes.")
    return int(size) / float(seconds)


# --- what the gate costs --------------------------------------------------------------------------------


def gate(running: Site, *, requests: int) -> dict[str, Any]:
    """Measure the web processes' CPU time for one request, including the download log's thread."""
    path = f"{running.seeded['path']}/small/0000.json"
    measured = {
        "HEAD": (running.own, running.own_pid, "HEAD", path),
        "GET of 1 kB, own": (running.own, running.own_pid, "GET", path),
        "GET of 1 kB, nginx": (running.nginx, running.nginx_pid, "GET", path),
        "robots.txt, for comparison": (running.own, running.own_pid, "GET", "/robots.txt"),
    }
    costs = {}
    for name, (base, pid, method, what) in measured.items():
        costs[name] = processor_time(base, pid, method, what, running.token(), requests)
    return {
        "milliseconds of processor": {name: round(1000 * cost, 2) for name, cost in costs.items()},
        "queries": running.seeded["queries"],
    }


def processor_time(
    base: str, pid: int, method: str, path: str, headers: dict[str, str], requests: int
) -> float:
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)
    for warm in (True, False):
        before = used(pid)
        for _ in range(200 if warm else requests):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise BenchError(f"{method} {path} answered {answer.status}.")
    time.sleep(2)  # the download log's thread is a second late
    connection.close()
    return (used(pid) - before) / requests


def used(pid: int) -> float:
    """Return the seconds of CPU time of a process and its children, with all their threads."""
    ticks = 0
    for one in [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# --- slow clients ---------------------------------------------------------------------------------------


class SlowCrowd:
    """Clients that read a little at intervals, each as a different person, all in one thread."""

    def __init__(self, base: str, running: Site, number: int) -> None:
        self._base, self._running = base, running
        self._stop = threading.Event()
        self.ended = 0
        self._sockets = [self._begun(n) for n in range(number)]
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _begun(self, number: int) -> socket.socket:
        parts = urlsplit(self._base)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect((parts.hostname, parts.port))
        lines = [f"GET {self._running.large} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self._running.token(number).items()]
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        status = client.recv(12)
        if not status.endswith(b" 200"):
            raise BenchError(f"Slow client {number} was answered {status!r}.")
        client.setblocking(False)
        return client

    def _read(self) -> None:
        chosen = selectors.DefaultSelector()
        for client in self._sockets:
            chosen.register(client, selectors.EVENT_READ)
        while not self._stop.wait(SLOW_PAUSE):
            for key, _ in chosen.select(0):
                if not key.fileobj.recv(SLOW_PIECE):  # type: ignore[union-attr]
                    self.ended += 1
                    chosen.unregister(key.fileobj)
        chosen.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        for client in self._sockets:
            client.close()


def slow_clients(running: Site, number: int = 50) -> dict[str, Any]:
    """Measure how long pages take during this many slow downloads."""
    answers = {}
    for name, base in {"own": running.own, "nginx": running.nginx}.items():
        quiet = page_times(base)
        crowd = SlowCrowd(base, running, number)
        try:
            answers[name] = {"without": quiet, f"with {number} slow clients": page_times(base)}
        finally:
            crowd.close()
        if crowd.ended:
            raise BenchError(f"{crowd.ended} slow clients of {name} mode were cut off.")
    return answers


def page_times(base: str, requests: int = 60) -> dict[str, float]:
    """Return the milliseconds of three pages, each on a new connection."""
    seconds = []
    for number in range(requests * len(PAGES)):
        started = time.perf_counter()
        status, _ = asked(urlsplit(base).netloc, "GET", PAGES[number % len(PAGES)])
        seconds.append(time.perf_counter() - started)
        if status != 200:
            raise BenchError(f"{PAGES[number % len(PAGES)]} answered {status}.")
    ordered = sorted(1000 * one for one in seconds)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[int(len(ordered) * 0.95)], 1),
        "max": round(ordered[-1], 1),
    }


# --- small files ----------------------------------------------------------------------------------------


def small_files(running: Site, *, each: int, clients: int = 200, processes: int = 4) -> dict[str, Any]:
    """Run this many clients at once, each with HEAD and GET of its files; count the errors."""
    answers = {}
    for name, base in {"own": running.own, "nginx": running.nginx}.items():
        share = clients // processes
        order = {"base": base, "seeded": running.seeded, "each": each, "share": share}
        started = time.perf_counter()
        crowd = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.delivery_clients"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT,
            )
            for _ in range(processes)
        ]  # fmt: skip
        said = []
        for number, process in enumerate(crowd):
            assert process.stdin
            process.stdin.write(json.dumps(order | {"first": number * share}))
            process.stdin.close()
        for process in crowd:
            assert process.stdout
            said.append(json.loads(process.stdout.read()))
            process.wait(30)
        seconds = time.perf_counter() - started
        files = sum(one["files"] for one in said)
        answers[name] = {
            "clients": clients,
            "files": files,
            "errors": sum(one["errors"] for one in said),
            "seconds": round(seconds, 1),
            "files a second": round(files / seconds),
        }
    return answers


# --- reporting ------------------------------------------------------------------------------------------


def show(figures: dict[str, Any]) -> None:
    """Print one line for each figure."""
    say: Callable[[str, object], None] = lambda what, figure: print(f"{what}: {figure}", flush=True)  # noqa: E731
    say("load of this machine before", ", ".join(f"{load:.2f}" for load in figures["machine"]["load"]))
    for name, found in figures["throughput"].items():
        say(
            f"whole file, {name}",
            f"{found['megabytes a second']} MB/s, {found['of nginx alone']:.0%} of nginx alone, rounds {found['rounds']}",
        )
    for name, cost in figures["gate"]["milliseconds of processor"].items():
        say(f"processor time of the web processes, {name}", f"{cost} ms")
    for method, count in figures["gate"]["queries"].items():
        say(f"queries of a {method}", count)
    for name, found in figures["slow clients"].items():
        for when, times in found.items():
            say(
                f"pages, {name} mode, {when}",
                f"p50 {times['p50']}, p95 {times['p95']}, max {times['max']} ms",
            )
    for name, found in figures["small files"].items():
        say(f"small files, {name} mode", ", ".join(f"{what} {count}" for what, count in found.items()))
