"""Sockets that send anything: half a head, a body one byte at a time, more than the announced length."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

PAGES = ("/", "/accounts/login/", "/robots.txt", "/api/models", "/accounts/signup/")
TOGETHER = 4  # concurrent visitors
WITHIN = 60  # seconds until a visitor gives up


def place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def head(method: str, path: str, *headers: str) -> bytes:
    """Return a request's head with these headers."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: portal", *headers, "", ""]).encode()


def connect(stack: ExitStack, url: str, sent: bytes = b"") -> socket.socket:
    """Open a connection that has sent `sent`; it is closed with the stack."""
    opened = stack.enter_context(socket.create_connection(place(url), timeout=WITHIN))
    opened.sendall(sent)
    return opened


def ended(opened: socket.socket) -> bool:
    """Return whether the other side has answered or closed the connection."""
    watched = select.poll()
    watched.register(opened, select.POLLIN)
    return bool(watched.poll(0))


def answer(opened: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers with lower-case names, and the body."""
    response = http.client.HTTPResponse(opened)
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@contextlib.contextmanager
def dripping(sockets: Iterable[socket.socket], pieces: Iterator[bytes]) -> Generator[None]:
    """While the block runs, send one piece after another on each socket, without long pauses, until it is answered."""
    done, alive = threading.Event(), list(sockets)

    def drip() -> None:
        while not done.wait(0.1):
            piece = next(pieces)
            for opened in list(alive):
                if ended(opened):
                    alive.remove(opened)
                    continue
                try:
                    opened.send(piece)
                except OSError:
                    alive.remove(opened)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def statuses(url: str, *, rounds: int = 5) -> list[int]:
    """Return the statuses of pages that several visitors open at once, each page on a new connection."""
    found: list[int] = []

    def visit() -> None:
        for _ in range(rounds):
            for path in PAGES:
                found.append(look(url, path))

    visitors = [threading.Thread(target=visit) for _ in range(TOGETHER)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    return found


def look(url: str, path: str) -> int:
    """Return the status of a page, or 0 if there was no response."""
    connection = http.client.HTTPConnection(*place(url), timeout=WITHIN)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
    except OSError:
        return 0
    else:
        return response.status
    finally:
        connection.close()


def all_well(rounds: int = 5) -> list[int]:
    return [200] * (TOGETHER * len(PAGES) * rounds)
