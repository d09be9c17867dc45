"""Django's SMTP backend with a time limit on each conversation as a whole.

A socket timeout limits only a single read: a server that sends a byte now and then could block the process for ever.
"""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends import smtp

CONNECTING = 5.0  # seconds for one address of the server
LONGEST = 25.0  # seconds to connect and sign in, and again for each email
FAREWELL = 3.0


class Watch:
    """A watch that ends the conversation over one socket from another thread."""

    def __init__(self) -> None:
        self.cut_off = False
        self._handle: socket.socket | None = None

    def hold(self, connected: socket.socket) -> None:
        """Watch this socket; wrappers around it, such as TLS, end with it."""
        self._handle = connected.dup()
        if self.cut_off:
            self.cut()

    def cut(self) -> None:
        self.cut_off = True
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    @contextmanager
    def within(self, seconds: float) -> Generator[None]:
        """Cut the conversation off after `seconds`, which raises `TimeoutError`, or after any other error."""
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            late = self.cut_off
            self.cut()
            if late:
                raise TimeoutError(f"the mail server took longer than {seconds:.0f} s") from error
            raise
        finally:
            timer.cancel()


class Watched(smtplib.SMTP):
    """An SMTP client that passes its socket to a watch before the server sends anything."""

    watch: Watch

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connected: socket.socket = super()._get_socket(host, port, min(CONNECTING, timeout))  # type: ignore[misc]
        connected.settimeout(timeout)
        self.watch.hold(connected)
        return connected


class WatchedTLS(smtplib.SMTP_SSL, Watched):
    """The same, with TLS from the start: SMTP_SSL wraps the socket that Watched made."""


class EmailBackend(smtp.EmailBackend):
    """Django's backend with a time limit for opening, each email and closing.

    An error ends the connection.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._watch = Watch()

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        """Return a class for this connection only: its constructor connects, and must know the watch."""
        return type("Connection", (WatchedTLS if self.use_ssl else Watched,), {"watch": self._watch})

    def open(self) -> bool | None:
        if self.connection:
            return False
        self._watch.close()
        self._watch = Watch()
        try:
            with self._watch.within(LONGEST):
                return super().open()
        except Exception:
            with suppress(Exception):
                self.close()
            raise

    def _send(self, email_message: EmailMessage) -> bool:
        with self._watch.within(LONGEST):
            sent: bool = super()._send(email_message)  # type: ignore[misc]
            return sent

    def close(self) -> None:
        try:
            with self._watch.within(FAREWELL):
                super().close()
        finally:
            self._watch.close()
