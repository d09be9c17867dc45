"""Answers to slow clients: kept in memory and sent by the main loop, so that they hold no thread."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from portal import arriving

MOST = (
    2**23
)  # bytes of one answer that are kept; for a longer one, a thread waits until only this many are left


class Outgoing:
    """A socket whose `sendall` keeps what the client does not take at once; otherwise an ordinary socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = bytearray()
        self.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def start(self) -> None:
        """Reset the counters, for the next answer or for the main loop."""
        self.sent = 0  # bytes of `rest` that were taken later
        self.waited = 0.0  # seconds

    def sendall(self, data: bytes) -> None:
        """Send what the client takes now; keep the rest, or wait if it is too much to keep."""
        left = memoryview(data)
        if not self.rest:
            with contextlib.suppress(BlockingIOError):
                left = left[self.sock.send(left, socket.MSG_DONTWAIT) :]
        self.rest += left
        self._send_down_to(MOST)

    def sendfile(self, *args: Any, **options: Any) -> int:
        """Send a file through the kernel, after what is kept."""
        self._send_down_to(0)
        return self.sock.sendfile(*args, **options)

    def _send_down_to(self, most: int) -> None:
        """Send until no more than `most` bytes are kept.

        Raises OSError if the client takes them too slowly.
        """
        while len(self.rest) > most:
            began = time.monotonic()
            patience = arriving.GRACE + self.sent / arriving.FLOOR - self.waited
            ready = select.poll()
            ready.register(self.sock, select.POLLOUT)
            if patience <= 0 or not ready.poll(1000 * patience):
                self.rest.clear()
                raise ConnectionResetError(errno.ECONNRESET, "The client takes its answer too slowly")
            self.waited += time.monotonic() - began
            self.send_more()

    def send_more(self) -> None:
        """Send as much of the kept bytes as the client takes. Raises OSError if the client is gone."""
        with contextlib.suppress(BlockingIOError):
            sent = self.sock.send(self.rest, socket.MSG_DONTWAIT)
            del self.rest[:sent]
            self.sent += sent


def pieces(answer: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an answer's bytes from a plain iterator: gunicorn would use sendfile for a file, and wait."""
    try:
        yield from answer
    finally:
        if close := getattr(answer, "close", None):
            close()
