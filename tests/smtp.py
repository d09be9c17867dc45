"""A mail server on loopback that misbehaves as a test asks: no answer, half an answer, a refusal, a crash."""

from __future__ import annotations

import email
import email.message
import email.policy
import socket
import socketserver
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, cast

GREETING = "220 tests.example ESMTP"
TAKEN = "250 2.0.0 taken"


class SmtpServer(socketserver.ThreadingTCPServer):
    """A mail server. `say` answers `CONNECT`, `MAIL`, `RCPT ada@example.org`, `DATA`, `END` and `QUIT`.

    An answer is a text or a function that takes the connection and replies itself. `emails` holds those
    accepted with 250; `commands` has one list for each connection; `hanging` is set once a connection is in
    `hang` or `drip`.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.say: dict[str, str | Callable[[Any], str]] = {}
        self.emails: list[email.message.EmailMessage] = []
        self.commands: list[list[str]] = []
        self.hanging = threading.Event()
        self.released = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for message in self.emails]

    def hang(self, connection: Any) -> str:
        """Say nothing until the test releases it or the client disconnects."""
        self.hanging.set()
        while not self.released.is_set() and not connection.gone():
            pass
        return ""

    def drip(self, connection: Any) -> str:
        """Send a reply that never ends, one byte at a time."""
        self.hanging.set()
        with suppress(OSError):
            connection.wfile.write(b"220-")
            while not self.released.wait(0.05):
                connection.wfile.write(b"a")
        return ""


class _Conversation(socketserver.StreamRequestHandler):
    server: SmtpServer

    def handle(self) -> None:
        self.said: list[str] = []
        self.server.commands.append(self.said)
        with suppress(OSError):
            self._converse()

    def gone(self) -> bool:
        """Wait a moment for the client to close; leave anything it sends to be read later."""
        self.connection.settimeout(0.1)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(None)

    def _converse(self) -> None:
        if not self._answer("CONNECT", GREETING):
            return
        while line := self.rfile.readline().decode().strip():
            verb = line.split(" ")[0].upper()
            self.said.append(line)
            if verb in {"EHLO", "HELO", "MAIL", "RSET"}:
                answered = self._answer(verb, "250 fine")
            elif verb == "RCPT":
                address = line[line.index("<") + 1 : line.index(">")]
                answered = self._answer(f"RCPT {address}", "250 fine")
            elif verb == "DATA":
                answered = self._answer("DATA", "354 go on") and self._take()
            else:
                self._answer("QUIT", "221 bye")
                return
            if not answered:
                return

    def _take(self) -> bool:
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line)
        message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        return self._answer("END", TAKEN, cast("email.message.EmailMessage", message))

    def _answer(self, what: str, usual: str, message: email.message.EmailMessage | None = None) -> bool:
        """Reply, and return whether the conversation continues."""
        wanted = self.server.say.get(what, usual)
        answer = wanted(self) if callable(wanted) else wanted
        if message is not None and answer.startswith("250"):
            self.server.emails.append(message)
        if not answer:
            return False
        self._write(answer)
        return not answer.startswith("421")

    def _write(self, answer: str) -> None:
        self.wfile.write(f"{answer}\r\n".encode())


@contextmanager
def serving() -> Generator[SmtpServer]:
    """Run a mail server that accepts everything until the test says otherwise."""
    with SmtpServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
