"""A proxy on loopback that cuts its first connections off after a given number of bytes of the answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class BreakingLine:
    """A proxy that cuts each long answer off after the next number of bytes in `after`; later ones pass.

    `breaks` counts the answers that were really cut; `pause` makes the proxy slow.
    """

    def __init__(self, target: str, after: Iterable[int], *, pause: float = 0.0) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._after, self._pause = list(after), pause
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.breaks = 0
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        up = threading.Thread(target=self._upwards, args=(client, server), daemon=True)
        up.start()
        with client, server:
            self._downwards(server, client)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            up.join(10)

    @staticmethod
    def _upwards(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _downwards(self, server: socket.socket, client: socket.socket) -> None:
        """Pass an answer on. One longer than a page uses up the next break; short ones pass whole."""
        carried, limit = 0, None
        with suppress(OSError):
            while data := server.recv(65_536):
                carried += len(data)
                if carried > 100_000 and limit is None:
                    limit = self._next_break()
                if limit is not None and carried >= limit > 0:
                    client.sendall(data[: len(data) - (carried - limit)])
                    self.breaks += 1
                    return
                client.sendall(data)
                time.sleep(self._pause)

    def _next_break(self) -> int:
        with self._lock:
            return max(self._after.pop(0), 165_536) if self._after else 0


@contextmanager
def breaking_line(target: str, after: Iterable[int] = (), *, pause: float = 0.0) -> Generator[BreakingLine]:
    line = BreakingLine(target, after, pause=pause)
    try:
        yield line
    finally:
        line.close()
