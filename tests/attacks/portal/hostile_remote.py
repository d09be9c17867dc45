"""A remote Hub on a real socket that sends exactly the bytes it is given."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TLS = b"\x16"  # how a TLS handshake begins
Send = Callable[[socket.socket, str], None]


def answer(body: Any = b"", *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    """Return an HTTP response; `headers` are whole lines, and `length` may be false."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(content) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\nConnection: close\r\n"
    return head.encode() + headers.encode("latin-1") + b"\r\n" + content


class HostileRemote:
    """A server that answers each request with `send` and records the requests."""

    def __init__(self, send: Send | bytes = b"") -> None:
        self.send: Send | bytes = send
        self.requests: list[str] = []
        self._ends = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._ends.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def drip(self, sock: socket.socket, content: bytes) -> None:
        """Send one byte at a time, endlessly, until the other side disconnects or the test is over."""
        while not self._ends.wait(0.02):
            for byte in content:
                sock.sendall(bytes([byte]))

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and head[:1] != TLS:
                part = sock.recv(65536)
                if not part:
                    return
                head += part
            text = head.decode("latin-1")
            self.requests.append(text)
            if callable(self.send):
                self.send(sock, text.split(" ")[1])
            else:
                sock.sendall(self.send)
