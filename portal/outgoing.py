"""Answers that a client is slow to take: kept in memory and sent by the main loop, so that they hold no thread."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Any

MOST = 2**20  # bytes of one answer that are kept; of a longer one a thread waits for what is before them


class Outgoing:
    """A socket whose `sendall` keeps what the client does not take at once. All else is the socket's own."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = bytearray()
        self.sent = 0  # bytes of `rest` that were taken later

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def sendall(self, data: bytes) -> None:
        """Send what the client takes now and keep the rest, or wait where it is too much to keep."""
        left = memoryview(data)
        if not self.rest:
            with contextlib.suppress(BlockingIOError):
                left = left[self.sock.send(left, socket.MSG_DONTWAIT) :]
        if len(self.rest) + len(left) > MOST:
            self.wait()
            self.sock.sendall(left)
        else:
            self.rest += left

    def sendfile(self, *args: Any, **options: Any) -> int:
        """Send a file by the kernel, after what is kept."""
        self.wait()
        return self.sock.sendfile(*args, **options)

    def wait(self) -> None:
        """Send what is kept, however long that takes."""
        kept, self.rest = self.rest, bytearray()
        if kept:
            self.sock.sendall(kept)

    def send_more(self) -> None:
        """Send what the client takes of what is kept; raises OSError where it is gone."""
        with contextlib.suppress(BlockingIOError):
            sent = self.sock.send(self.rest, socket.MSG_DONTWAIT)
            del self.rest[:sent]
            self.sent += sent


def pieces(answer: Iterable[bytes]) -> Iterator[bytes]:
    """An answer's bytes without its type, by which gunicorn would send it with sendfile and wait for the client."""
    try:
        yield from answer
    finally:
        if close := getattr(answer, "close", None):
            close()
