"""Send files from this process: it answers range requests, and the kernel sends the bytes (sendfile).

Each body holds a thread. So bodies are limited per person and in total, and some threads are kept for pages.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from io import FileIO
from pathlib import Path

from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse

from model_ops.body_slots import Room
from model_ops.delivery.ranges import Span
from model_ops.delivery.ticket import Busy, Damaged, Ticket, begin, whole_blob
from model_ops.enums import DownloadMode
from model_ops.models import RepoFile
from model_ops.services.downloads import journal
from model_ops.services.downloads.in_flight import running

log = logging.getLogger(__name__)

CHUNK = 2**20  # bytes, if the server has no sendfile
SMALL = (
    128 * 2**10
)  # bytes; a body of this size fits in the socket's buffer and holds no thread, so it isn't counted
STALLED = 120  # seconds without progress before the connection is closed
STALLED_SMALL = 20  # the same, for a body that isn't counted
NO_ROOM = {
    Room.FULL: "Too many downloads at once:",
    Room.PERSON_FULL: "You have reached the limit of downloads at the same time:",
}


def answer(
    request: HttpRequest, file: RepoFile, *, ticket: Ticket, span: Span | None
) -> StreamingHttpResponse:
    """Return a response with the file or part of it; raise `Damaged` or `Busy` before anything is sent."""
    body = Body(file, ticket, span, request.META.get("gunicorn.socket"))
    request.META["gatehouse.counted"] = True  # `body_slots` limits their number, so the web server need not
    status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
    response = StreamingHttpResponse(body, status=status)
    # As in Django's FileResponse: its WSGI handler passes the body to the server's `wsgi.file_wrapper`.
    response.file_to_stream, response.block_size = body, CHUNK  # type: ignore[attr-defined]
    response["Content-Length"] = str(body.span.length)
    if span:
        response["Content-Range"] = f"bytes {span.first}-{span.end - 1}/{file.blob.size}"
    if not connection.in_atomic_block:
        connection.close()  # a transfer may take hours: don't hold a pooled connection for it
    return response


class Body:
    """An open part of a file, which the server sends with sendfile or in pieces and then closes."""

    mode = "rb"

    def __init__(
        self, file: RepoFile, ticket: Ticket, span: Span | None, connected: socket.socket | None
    ) -> None:
        self.span = span or Span(0, file.blob.size)
        self.right, self.person = ticket.right, ticket.person
        self.counted = self.span.length > SMALL
        self.name = f"{file.path} by {ticket.user or 'nobody'}"
        self._socket, self._sent, self._closed = connected, 0, True
        path = whole_blob(file)
        room = running.enter(self)
        if room != Room.FREE:
            raise Busy(NO_ROOM[room])
        try:
            self._file, self._request_id = self._open_and_log(path, file, ticket, span)
        except BaseException:
            running.leave(self)
            raise
        self._began, self._closed = time.monotonic(), False
        if connected is None:
            return
        # The kernel closes the connection of a client that reads nothing for this long. A timeout here would
        # wake this process for each buffer, which slows down the transfer.
        seconds = STALLED if self.counted else STALLED_SMALL
        if hasattr(socket, "TCP_USER_TIMEOUT") and connected.family in (socket.AF_INET, socket.AF_INET6):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * seconds)
        else:
            connected.settimeout(seconds)

    def _open_and_log(
        self, path: Path, file: RepoFile, ticket: Ticket, span: Span | None
    ) -> tuple[FileIO, str]:
        """Return the file, positioned at the first requested byte, and the id of its download log row."""
        try:
            opened = path.open("rb", buffering=0)
        except OSError as error:
            raise Damaged(path.name) from error
        opened.seek(self.span.first)
        try:
            return opened, begin(file=file, ticket=ticket, span=span, mode=DownloadMode.OWN)
        except Busy:
            opened.close()
            raise

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, position: int) -> None:
        """Record how far `socket.sendfile` got: it calls this at the end, even if the connection broke."""
        self._sent = position - self.span.first
        self._file.seek(position)

    def read(self, size: int = CHUNK) -> bytes:
        """Return the next piece; the request for it shows that the previous one was sent."""
        self._sent = self._file.tell() - self.span.first
        return self._file.read(min(size, self.span.length - self._sent)) or b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def cut(self) -> None:
        """Stop the transfer from another thread, because the right to it has ended."""
        log.info("Closing a running download of %s: the right to it has ended.", self.name)
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Log the end once; a failing download log never interrupts a transfer."""
        if self._closed:
            return
        self._closed = True
        running.leave(self)
        self._file.close()
        journal.end(self._request_id, bytes_sent=self._sent, seconds=time.monotonic() - self._began)

    def __del__(self) -> None:
        """Close a response that was never sent, in a thread: this one may hold a lock that `close` needs."""
        if not self._closed:
            threading.Thread(target=self.close, daemon=True).start()
