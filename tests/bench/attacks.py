"""`./dev.py bench attacks`: page times during anonymous attacks, on the portal's web server and behind nginx.

Each attack once brought the portal down (tests/attacks/portal/README.md). Works in a temporary state folder
and only on loopback.
"""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from portal.embedded.errors import StartError
from portal.embedded.supervisor import run_portal
from tests.attacks.portal.lines import answer, connect, dripping, head, place
from tests.bench.delivery import web
from tests.bench.errors import BenchError
from tests.bench.site import temporary_state
from tests.nginx import free_port, missing, nginx_environment, running_nginx

PAGES = ("/", "/accounts/login/", "/accounts/signup/")
REQUESTS = 120
PATIENCE = 30.0  # seconds until a visitor gives up
SHORTEST, LONGEST = 10.0, 120.0  # seconds measured for one line of figures
SETTLED_WITHIN = 600.0
CARDS, SENDERS = 90, 9
CARD = json.dumps({"content": "---\na: [" + "1," * 262_000 + "1]\n---\n", "repoType": "model"}).encode()
DRIPS, HALF_HEADS = 85, 400
SPOOLERS, PIECE = 8, bytes(2**18)
HUGE = 600 * 2**20
COOKIE = "Cookie: gatehouse_csrf=" + "a" * 32
FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
Attack = Callable[[str, ExitStack], None]


def main(arguments: list[str]) -> int:
    """Print the 95th percentile of page views for each attack and each server; return the exit status."""
    if arguments:
        raise BenchError("bench attacks takes no options.")
    try:
        with temporary_state() as state, sites(state) as addresses:
            for name, url in addresses.items():
                for what, attack in ATTACKS.items():
                    _settle(url)
                    print(f"{name}, {what}: {_measured(url, attack)}", flush=True)
    except StartError as error:
        raise BenchError(str(error)) from error
    return 0


@contextmanager
def sites(state: Path) -> Iterator[dict[str, str]]:
    """Start the portal's own web server, and another behind the shipped nginx if nginx is installed."""
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL"):
        os.environ.pop(name, None)
    with ExitStack() as stack:
        portal = stack.enter_context(run_portal(state))
        found = {"own": portal.address}
        if name := missing():
            print(f"behind nginx: {name} is not installed here", flush=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-nginx-")))
            behind, _ = stack.enter_context(web(state, portal.environment | {"GATEHOUSE_DELIVERY": "nginx"}))
            options = nginx_environment(folder, port=free_port(), portal=behind, store=state / "weights")
            found["nginx"] = stack.enter_context(running_nginx(options)).url
        yield found


def _settle(url: str) -> None:
    """Wait until the previous attack's backlog is gone: ten pages in a row within 0.1 s each."""
    quick, until = 0, time.monotonic() + SETTLED_WITHIN
    while quick < 10 and time.monotonic() < until:
        began = time.perf_counter()
        well = _page(url, PAGES[0])
        quick = quick + 1 if well and time.perf_counter() - began < 0.1 else 0


def _measured(url: str, attack: Attack) -> str:
    """View pages one after another, each on a new connection, until there are enough or time is up."""
    seconds, lost, until = [], 0, time.monotonic() + LONGEST
    with ExitStack() as stack:
        attack(url, stack)
        least = time.monotonic() + SHORTEST
        for number in itertools.count():
            began = time.perf_counter()
            lost += not _page(url, PAGES[number % len(PAGES)])
            seconds.append(time.perf_counter() - began)
            enough = number >= REQUESTS and time.monotonic() > least
            if enough or time.monotonic() > until:
                break
    found = sorted(1000 * one for one in seconds)
    p50, p95 = found[len(found) // 2], found[int(len(found) * 0.95)]
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, max {found[-1]:.0f} ms, {lost} of {len(found)} pages lost"


def _page(url: str, path: str) -> bool:
    connection = http.client.HTTPConnection(*place(url), timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return response.status == 200
    finally:
        connection.close()


def _nothing(url: str, stack: ExitStack) -> None:
    """Attack with nothing, for comparison."""


def _cards(url: str, stack: ExitStack) -> None:
    """Send front matter of 512 KB, 90 times, nine at once."""
    _beside(stack, _send_cards, url, SENDERS)


def _send_cards(url: str, begin: Any) -> None:
    begin.wait()
    for _ in range(CARDS // SENDERS):
        connection = http.client.HTTPConnection(*place(url), timeout=PATIENCE)
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/api/validate-yaml", CARD, {"Content-Type": "application/json"})
            connection.getresponse().read()
        connection.close()


def _drips(url: str, stack: ExitStack) -> None:
    """Send 85 bodies a byte at a time, each from its own address where a proxy's header is trusted."""
    form = "Content-Type: application/x-www-form-urlencoded"
    held = []
    for number in range(DRIPS):
        sender = f"X-Forwarded-For: 198.51.100.{number}"
        path = "/oauth/token" if number % 2 else "/x/y.git/request"
        held.append(connect(stack, url, head("POST", path, form, COOKIE, sender, "Content-Length: 60000")))
    stack.enter_context(dripping(held, itertools.repeat(b"a")))


def _half_heads(url: str, stack: ExitStack) -> None:
    """Send 400 request heads a byte at a time."""
    held = [connect(stack, url, b"GET / HTTP/1.1\r\nHost: portal\r\nX: ") for _ in range(HALF_HEADS)]
    stack.enter_context(dripping(held, itertools.repeat(b"a")))


def _files(url: str, stack: ExitStack) -> None:
    """Send multipart bodies of 600 MiB with a made-up CSRF cookie, eight at once, again and again."""
    _beside(stack, _send_files, url, SPOOLERS)


def _send_files(url: str, begin: Any) -> None:
    begin.wait()
    form = "Content-Type: multipart/form-data; boundary=b"
    sent = head("POST", "/nobody/nothing.git/request", COOKIE, form, f"Content-Length: {HUGE}")
    while True:
        with suppress(OSError, http.client.HTTPException), ExitStack() as own:
            client = connect(own, url, sent + FILE)
            for _ in range(HUGE // len(PIECE)):
                client.sendall(PIECE)
            answer(client)


def _beside(stack: ExitStack, send: Callable[[str, Any], None], url: str, number: int) -> None:
    """Run this many senders in separate processes, started together, until the stack is closed."""
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(number + 1)
    for _ in range(number):
        process = context.Process(target=send, args=(url, begin), daemon=True)
        stack.callback(process.join)
        stack.callback(process.terminate)
        process.start()
    begin.wait()


ATTACKS: dict[str, Attack] = {
    "no attack": _nothing,
    "85 dripping bodies": _drips,
    "400 half heads": _half_heads,
    "files of 600 MiB": _files,
    "front matter of 512 KB, 90 times": _cards,
}
