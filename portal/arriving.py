"""Collect one request as it arrives, and decide when it is late.

The web server's main loop reads heads and small bodies itself, so that a slow sender costs bytes and a place,
but never a thread. gunicorn's own parser reads the head once, when it is complete.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import Unreader

LONGEST_HEAD = 2**16  # bytes, as many as docker/nginx passes on
SMALL = 2**20  # bytes of a body that is collected in memory; larger ones only as a stream
HEAD_WITHIN = 20.0  # seconds from the first byte
GRACE = 30.0  # seconds for a body, and one more for every
FLOOR = 2**13  # bytes of it that have arrived
WINDOW = 60.0  # seconds of waiting in which a stream must deliver WINDOW * FLOOR bytes
END_OF_HEAD = b"\r\n\r\n"
BARE_LINE_END = re.compile(rb"(?<!\r)\n")


class Line(Unreader):  # type: ignore[misc]
    """The input of gunicorn's parser: first the bytes already received, then the socket, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.sock: socket.socket | None = None
        self.received = self._marked = 0
        self.waited = self._marked_wait = 0.0
        self.since: float | None = None

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return bytes from the socket, or b"" without one: a complete request never waits for its client."""
        if self.sock is None:
            return b""
        began = self.since = time.monotonic()
        try:
            piece = self.sock.recv(min(max(size_hint or 0, 2**13), SMALL))
        finally:
            self.since = None
            self.waited += time.monotonic() - began
        self.received += len(piece)
        return piece

    def is_slow(self, now: float) -> bool:
        """Return whether the last WINDOW seconds of waiting brought less than the floor.

        Another thread calls this.
        """
        since = self.since
        waited = self.waited + (now - since if since is not None else 0.0)
        if waited - self._marked_wait < WINDOW:
            return False
        slow = self.received - self._marked < WINDOW * FLOOR
        self._marked, self._marked_wait = self.received, waited
        return slow


class Arrived(RequestParser):  # type: ignore[misc]
    """A parser for one request that was read before a thread took it."""

    def __init__(self, cfg: Any, peer: Any) -> None:
        super().__init__(cfg, [], peer)
        self.unreader = Line()
        self.error: Exception | None = None

    def read_head(self, head: bytes) -> Request | None:
        """Parse a complete head. A refusal is raised in the thread that answers it."""
        self.unreader.unread(head)
        try:
            return super().__next__()
        except Exception as error:
            self.error = error
            return None

    def __next__(self) -> Request:
        if self.error is not None:
            raise self.error
        return self.mesg

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Skip the unread rest of a body in memory; return False if it would have to come from the socket."""
        if self.unreader.sock is not None:
            return not getattr(self.mesg.body.reader, "length", 1)
        return bool(super().finish_body())


class Arriving:
    """The part of one request that has arrived.

    Call `feed`, then check `complete`; `is_late` says when to give up. `sender` is the address it is counted
    for: the peer, and once the head has arrived, the address that a trusted proxy names.
    """

    def __init__(self, cfg: Any, peer: Any, *, now: float) -> None:
        self.parser = Arrived(cfg, peer)
        self.began = now
        self.sender = str(peer[0]) if isinstance(peer, tuple) else ""
        self.request: Request | None = None
        self.length = 0
        self.data = bytearray()

    @property
    def in_head(self) -> bool:
        return self.request is None and self.parser.error is None

    @property
    def complete(self) -> bool:
        """Return whether a thread can answer it without waiting for the client."""
        return self.parser.error is not None or (self.request is not None and len(self.data) >= self.length)

    @property
    def is_chunked(self) -> bool:
        return self.request is not None and isinstance(self.request.body.reader, ChunkedReader)

    def feed(self, piece: bytes, *, now: float) -> bool:
        """Add bytes. Return True if they completed the head, when the body's time starts."""
        seen = max(0, len(self.data) - len(END_OF_HEAD) + 1)
        self.data += piece
        if not self.in_head:
            return False
        broken = BARE_LINE_END.search(self.data, seen)  # does not end as a head must; the parser says so
        if self.data.find(END_OF_HEAD, seen) < 0 and not broken:
            if len(self.data) > LONGEST_HEAD:
                self.parser.error = LimitRequestHeaders(f"more than {LONGEST_HEAD} bytes")
            return False
        self.request = self.parser.read_head(bytes(self.data))
        self.data = bytearray(self.parser.unreader.take_buffered())
        self.began = now
        if self.request is not None:
            self.length = getattr(self.request.body.reader, "length", 0)
        return self.request is not None

    def is_late(self, now: float) -> bool:
        """Return whether it has taken longer than a head or a body may, even if bytes kept coming."""
        waited = now - self.began
        return waited > (HEAD_WITHIN if self.in_head else GRACE + len(self.data) / FLOOR)

    def hand_over(self, sock: socket.socket | None = None) -> Arrived:
        """Pass all bytes to the parser, with the socket if the rest of the body is to come from it."""
        self.parser.unreader.unread(bytes(self.data))
        self.parser.unreader.sock = sock
        return self.parser
