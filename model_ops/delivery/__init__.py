"""One way out for bytes: Gatehouse answers ranges itself and lets the kernel send the file (sendfile).

Every body is one row in the download log, with the bytes that were really sent, written when the body ends,
however it ends. Bodies are counted per process, so that downloads never take the threads that pages need.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from access_requests.models import AccessToken, GatedModel, Grant
from model_ops.models import Download, RepoFile
from model_ops.running import running

if TYPE_CHECKING:
    from portal.accounts.models import User

log = logging.getLogger(__name__)

CHUNK = 2**20  # bytes, where the server has no sendfile
SMALL = (
    128 * 2**10
)  # bytes; such a body fits into the socket's buffer and holds no thread, so it isn't counted
RETRY_AFTER = 30  # seconds; clients try five times
STALLED = 120  # seconds without a byte taken: the connection is closed
RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.ASCII)
ENDLESS = 10**20  # larger than any file


class Damaged(Exception):
    """The blob isn't in the store, or not whole."""


class Busy(Exception):
    """Too many bodies at once in this process."""

    seconds = RETRY_AFTER


class NotSatisfiable(Exception):
    """The range lies outside the file."""


@dataclass(frozen=True)
class Ticket:
    """Who gets the bytes, and by which right: what the download log keeps."""

    model: GatedModel
    commit: str
    user: User | None = None
    token: AccessToken | None = None
    grant: Grant | None = None
    address: str | None = None
    client: str = ""


@dataclass(frozen=True)
class Span:
    """Bytes `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.first


def serve(request: HttpRequest, file: RepoFile, *, ticket: Ticket) -> HttpResponseBase:
    """The file, or the part of it that `Range` asks for; HEAD gets the headers alone.

    Raises `Damaged` or `Busy` before anything is sent.
    """
    path, size = _whole_blob(file), file.blob.size
    if request.method == "HEAD":
        response: HttpResponseBase = HttpResponse()
        response["Content-Length"] = str(size)
        return response
    try:
        part = asked_span(_range_header(request, file), size)
    except NotSatisfiable:
        return _not_satisfiable(size)
    span, status = (part, HTTPStatus.PARTIAL_CONTENT) if part else (Span(0, size), HTTPStatus.OK)
    body = Body(path, span, _row(file, ticket, span, status), request.META.get("gunicorn.socket"))
    response = StreamingHttpResponse(body, status=status)
    # As Django's FileResponse does it: its WSGI handler gives the body to the server's `wsgi.file_wrapper`.
    response.file_to_stream, response.block_size = body, CHUNK  # type: ignore[attr-defined]
    response["Content-Length"] = str(span.length)
    if part:
        response["Content-Range"] = f"bytes {span.first}-{span.end - 1}/{size}"
    _let_go_of_database()
    return response


def asked_span(header: str, size: int) -> Span | None:
    """A single range, or None for the whole file: no header, several ranges, or one that makes no sense (RFC 9110).

    Raises `NotSatisfiable` for a range that holds no byte of the file.
    """
    match = RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return None
    first, last = (_number(digits) for digits in match.groups())
    if first is None:
        span = Span(max(0, size - (last or 0)), size)
    elif last is not None and last < first:
        return None
    else:
        span = Span(first, size if last is None else min(last + 1, size))
    if span.length <= 0:
        raise NotSatisfiable
    return span


def _number(digits: str) -> int | None:
    if not digits:
        return None
    return int(digits) if len(digits) <= 20 else ENDLESS


def _range_header(request: HttpRequest, file: RepoFile) -> str:
    """`Range`, unless `If-Range` names other content."""
    condition = request.headers.get("If-Range", "")
    return request.headers.get("Range", "") if condition in {"", f'"{file.etag}"'} else ""


def _whole_blob(file: RepoFile) -> Path:
    path = Path(settings.WEIGHTS_ROOT) / file.blob.location
    try:
        size = path.stat().st_size
    except OSError as error:
        log.error("The content of %s is not in the store: %s", file.path, error)  # noqa: TRY400 - no traceback to read
        raise Damaged(file.path) from error
    if size != file.blob.size:
        log.error(
            "The content of %s has %d bytes in the store instead of %d: %s",
            file.path,
            size,
            file.blob.size,
            path,
        )
        raise Damaged(file.path)
    return path


def _not_satisfiable(size: int) -> HttpResponse:
    sentence = f"The file has {size} bytes: the range asked for lies outside."
    response = HttpResponse(sentence, content_type="text/plain; charset=utf-8", status=416)
    response["X-Error-Code"] = "RangeNotSatisfiable"
    response["X-Error-Message"] = sentence
    response["Content-Range"] = f"bytes */{size}"
    return response


def _row(file: RepoFile, ticket: Ticket, span: Span, status: int) -> Download:
    return Download(
        model=ticket.model,
        grant=ticket.grant,
        token=ticket.token,
        user=ticket.user,
        commit=ticket.commit,
        path=file.path,
        first_byte=span.first,
        bytes_asked=span.length,
        bytes_sent=0,
        status=status,
        seconds=0,
        address=ticket.address,
        client=ticket.client[:200],
        started_at=timezone.now(),
    )


def _let_go_of_database() -> None:
    """A transfer may take hours: its thread must not keep a connection of the pool meanwhile."""
    if not connection.in_atomic_block:
        connection.close()


class Body:
    """An open part of a file: what the server sends, by sendfile or piece by piece, and then closes."""

    mode = "rb"

    def __init__(self, path: Path, span: Span, row: Download, connected: socket.socket | None) -> None:
        self.grant_id, self.token_id = row.grant_id, row.token_id
        self.counted = span.length > SMALL
        self._span, self._row, self._socket = span, row, connected
        self._began, self._sent, self._closed = time.monotonic(), 0, False
        if not running.enter(self):
            self._closed = True
            raise Busy
        try:
            self._file = path.open("rb", buffering=0)
            self._file.seek(span.first)
        except OSError as error:
            running.leave(self)
            self._closed = True
            raise Damaged(row.path) from error
        if connected is not None:
            connected.settimeout(STALLED)

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, position: int) -> None:
        """`socket.sendfile` says here how far it came, also when the connection broke."""
        self._sent = position - self._span.first
        self._file.seek(position)

    def read(self, size: int = CHUNK) -> bytes:
        """The next piece; that it is asked for means that the one before went out."""
        self._sent = self._file.tell() - self._span.first
        return self._file.read(min(size, self._span.length - self._sent)) or b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def cut(self) -> None:
        """Ends the transfer from another thread: the right to it is gone."""
        log.info(
            "Closing a running download of %s by user %s: the grant or token ended.",
            self._row.path,
            self._row.user_id,
        )
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Writes the row, once; a failing log never breaks a transfer."""
        if self._closed:
            return
        self._closed = True
        running.leave(self)
        self._file.close()
        self._row.bytes_sent, self._row.seconds = self._sent, time.monotonic() - self._began
        try:
            self._row.save(force_insert=True)
        except Exception:
            facts = {
                field.attname: getattr(self._row, field.attname) for field in Download._meta.concrete_fields
            }
            log.exception("A download could not be written into the log: %s", facts)

    def __del__(self) -> None:
        if not self._closed:  # a response that never reached the server
            running.leave(self)
            self._file.close()
