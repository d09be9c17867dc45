"""Requests that never end: half a head, or a body sent one byte at a time."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from portal import webworker
from tests.attacks.portal.lines import all_well, answer, connect, dripping, ended, head, statuses
from tests.model_ops.hub.conftest import Portal
from tests.model_ops.hub.ways import behind_nginx
from tests.nginx import require_nginx
from tests.waiting import wait_until

NGINX_EACH = 32  # concurrent requests with a body from one sender
SOCKETS = 85  # more than the web server has threads
HALF_HEADS = 400
CSRF = "Cookie: gatehouse_csrf=" + "a" * 32
FORM = "Content-Type: application/x-www-form-urlencoded"
PATHS = ["/oauth/token", "/x/y/request", "/x/y.git/request", "/accounts/login/", "/admin/login/", "/nowhere"]


def own_address(number: int) -> str:
    return f"X-Forwarded-For: 198.51.100.{number}"  # believed from this machine, as if from a proxy


def web_processes(portal: Portal) -> set[int]:
    """Return the ids of a portal's gunicorn processes."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:  # another user's process, or it has ended
            continue
        if f"GATEHOUSE_URL={portal.url}".encode() in environment and b"gunicorn" in command:
            found.add(int(folder.name))
    return found


@contextmanager
def stopped(processes: set[int]) -> Generator[None]:
    """Stop the processes during the block, so that everything sent in it reaches them at once."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("path", PATHS)
def test_bodies_that_drip_leave_the_threads_to_pages(bare_portal: Portal, path: str) -> None:
    with ExitStack() as stack:
        held = [
            connect(
                stack,
                bare_portal.url,
                head("POST", path, FORM, CSRF, own_address(number), "Content-Length: 60000"),
            )
            for number in range(SOCKETS)
        ]
        with dripping(held, itertools.repeat(b"a")):
            assert [ended(one) for one in held] == [False] * SOCKETS
            assert statuses(bare_portal.url) == all_well()


def test_bodies_that_drip_from_one_address_are_counted_and_its_pages_are_not(attacked: Portal) -> None:
    with ExitStack() as stack:
        sent = head("POST", "/oauth/token", FORM, "Content-Length: 60000") + b"a"
        held = [connect(stack, attacked.url, sent) for _ in range(SOCKETS)]
        crowded = SOCKETS - webworker.BODIES_EACH
        wait_until(lambda: sum(map(ended, held)) >= crowded)
        refused = [answer(one) for one in held if ended(one)]
        assert [(status, headers["x-error-code"]) for status, headers, _ in refused] == [
            (429, "TooManyUnfinished")
        ] * crowded
        with dripping(held, itertools.repeat(b"a")):
            assert statuses(attacked.url) == all_well()


def test_bodies_that_crowd_out_others_do_not_end_the_web_process(bare_portal: Portal) -> None:
    """New bodies take the places of old ones while another byte of each old one is waiting to be read."""
    sent = head("POST", "/oauth/token", FORM, "Content-Length: 60000") + b"a"
    with ExitStack() as stack:
        old = [connect(stack, bare_portal.url, sent) for _ in range(webworker.BODIES_EACH)]
        new = [connect(stack, bare_portal.url) for _ in range(40)]
        assert statuses(bare_portal.url, rounds=1) == all_well(rounds=1)
        before = web_processes(bare_portal)
        assert len(before) >= 2  # the master and its worker
        with stopped(before):
            for one in new:
                one.sendall(sent)
            for one in old:
                one.sendall(b"a")
        assert statuses(bare_portal.url) == all_well()
        assert web_processes(bare_portal) == before


@pytest.fixture(scope="module")
def named(bare_portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Portal]:
    """The portal through an nginx that trusts X-Forwarded-For from this machine."""
    require_nginx()
    folder = tmp_path_factory.mktemp("named")
    with behind_nginx(bare_portal, folder, before="127.0.0.1/32") as (through, _):
        yield through


SENDERS = {
    "IPv4": (["203.0.113.9"], "203.0.113.10"),
    "IPv6": ([f"2001:db8::{number:x}:0:1" for number in range(60)], "2001:db8:0:1::1"),
    "IPv4 in IPv6": (["::ffff:203.0.113.19", "203.0.113.19"], "::ffff:203.0.113.20"),
}


@pytest.mark.parametrize("counted", SENDERS)
def test_nginx_counts_bodies_that_drip_for_their_sender(named: Portal, counted: str) -> None:
    """An IPv6 sender is a whole /64."""
    addresses, other = SENDERS[counted]
    with ExitStack() as stack:
        held = [
            connect(stack, named.url, form_from(address))
            for address, _ in zip(itertools.cycle(addresses), range(40), strict=False)
        ]
        with dripping(held, itertools.repeat(b"a")):
            wait_until(lambda: sum(map(ended, held)) >= 40 - NGINX_EACH)
            refused = [answer(one)[0] for one in held if ended(one)]
            assert refused == [429] * (40 - NGINX_EACH)
            form = b"grant_type=none"
            whole = form_from(other, len(form)) + form
            assert answer(connect(stack, named.url, whole))[0] == 400


def test_bodies_that_drip_from_many_addresses_through_nginx_leave_others_their_place(named: Portal) -> None:
    """There are more than 1,024 at once, which used to be the limit for all senders together."""
    with ExitStack() as stack:
        held = [
            connect(stack, named.url, form_from(f"198.51.100.{number // NGINX_EACH}"))
            for number in range(34 * NGINX_EACH)
        ]
        form = b"grant_type=none"
        with dripping(held, itertools.repeat(b"a")):
            whole = form_from("203.0.113.30", len(form)) + form
            assert answer(connect(stack, named.url, whole))[0] == 400
            assert sum(map(ended, held)) == 0


def form_from(address: str, length: int = 60000) -> bytes:
    return head("POST", "/oauth/token", FORM, f"X-Forwarded-For: {address}", f"Content-Length: {length}")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"])
def test_body_of_another_method_that_drips_leaves_the_threads_to_pages(
    bare_portal: Portal, method: str
) -> None:
    with ExitStack() as stack:
        held = [
            connect(
                stack, bare_portal.url, head(method, "/", own_address(number), "Content-Length: 60000") + b"a"
            )
            for number in range(SOCKETS)
        ]
        with dripping(held, itertools.repeat(b"a")):
            assert [ended(one) for one in held] == [False] * SOCKETS
            assert statuses(bare_portal.url, rounds=2) == all_well(rounds=2)


def test_half_heads_leave_the_threads_to_pages(attacked: Portal) -> None:
    with ExitStack() as stack:
        held = [
            connect(stack, attacked.url, b"GET / HTTP/1.1\r\nHost: portal\r\nX-Long: ")
            for _ in range(HALF_HEADS)
        ]
        with dripping(held, itertools.repeat(b"a")):
            assert statuses(attacked.url) == all_well()


def test_half_heads_beyond_all_places_leave_places_to_pages(bare_portal: Portal) -> None:
    with ExitStack() as stack:
        for _ in range(1200):  # gunicorn takes 1000 connections
            connect(stack, bare_portal.url, b"GET / HTTP/1.1\r\nHost: por")
        assert statuses(bare_portal.url) == all_well()


@pytest.mark.parametrize(
    "body",
    [b"1\r\na\r\n", b"1" + b";extension=x" * 500, b"0\r\nTrailer: x", b"ffffffff\r\n"],
    ids=["chunks", "extension", "trailer", "huge chunk"],
)
def test_chunked_body_is_refused_before_it_is_read(bare_portal: Portal, body: bytes) -> None:
    with ExitStack() as stack:
        sent = head("POST", "/oauth/token", FORM, "Transfer-Encoding: chunked") + body
        held = [connect(stack, bare_portal.url, sent) for _ in range(SOCKETS)]
        found = [answer(one) for one in held]
        assert {(status, headers["x-error-code"]) for status, headers, _ in found} == {
            (411, "LengthRequired")
        }
        with dripping(held, itertools.repeat(b"1\r\na\r\n")):
            assert statuses(bare_portal.url, rounds=2) == all_well(rounds=2)


def test_chunked_body_that_drips_through_nginx_leaves_the_threads_to_pages(
    behind: tuple[Portal, Portal],
) -> None:
    through, _ = behind
    with ExitStack() as stack:
        sent = head("POST", "/oauth/token", FORM, "Transfer-Encoding: chunked")
        held = [connect(stack, through.url, sent) for _ in range(SOCKETS)]
        with dripping(held, itertools.repeat(b"1\r\na\r\n")):
            assert statuses(through.url) == all_well()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/uploads/not-signed"),
        ("POST", "/api/models/x/y/commit/main"),
        ("POST", "/admin/access_requests/gatedmodel/add/"),
    ],
)
def test_large_body_of_an_anonymous_sender_is_refused_unread_where_uploads_go(
    attacked: Portal, method: str, path: str
) -> None:
    with ExitStack() as stack:
        sent = head(method, path, FORM, CSRF, "Content-Length: 10000000") + b"a"
        found = [answer(connect(stack, attacked.url, sent))[0] for _ in range(SOCKETS)]
        assert set(found) <= {
            401,
            403,
            404,
            413,
            429,
        }  # and nginx counts those whose answer has not been read yet
        assert statuses(attacked.url, rounds=1) == all_well(rounds=1)


def test_pipelined_requests_are_answered_in_their_order(bare_portal: Portal) -> None:
    with ExitStack() as stack:
        form = b"grant_type=none"
        ask = head("POST", "/oauth/token", FORM, f"Content-Length: {len(form)}") + form
        client = connect(
            stack, bare_portal.url, ask + head("GET", "/robots.txt") + ask + head("GET", "/api/models")
        )
        found = []
        reader = client.makefile("rb")
        for _ in range(4):
            status = int(reader.readline().split()[1])
            headers = dict(iter(lambda: tuple(reader.readline().strip().lower().split(b": ", 1)), (b"",)))
            reader.read(int(headers[b"content-length"]))
            found.append(status)
        assert found == [400, 200, 400, 200]


def test_sender_who_asks_first_is_told_to_go_on(bare_portal: Portal) -> None:
    with ExitStack() as stack:
        form = b"grant_type=none"
        client = connect(
            stack,
            bare_portal.url,
            head("POST", "/oauth/token", FORM, "Expect: 100-continue", f"Content-Length: {len(form)}"),
        )
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(form)
        assert answer(client)[0] == 400
        large = head("POST", "/oauth/token", FORM, "Expect: 100-continue", "Content-Length: 2000000")
        assert answer(connect(stack, bare_portal.url, large))[0] == 413
