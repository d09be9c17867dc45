"""Read bodies in pieces: counted, so that pages keep working, and closed if they stall."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, UnreadablePostError
from django.http.response import HttpResponseBase

from model_ops.body_slots import Places, Room
from model_ops.hub.refusals import Refused

PIECE = 2**16  # bytes; if no piece arrives within SLOWEST, the body is closed
SLOWEST = 60.0  # seconds
DRAIN_WITHIN = 3.0
LOOK_EVERY = 5.0
RETRY = 2  # seconds; clients retry by themselves after a 503
DRAINED = 2**20  # bytes read of a refused body, so that the client gets to read the refusal
Pieces = Iterator[bytes]
View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def streams(view: View) -> View:
    """Mark a view that reads its body in pieces after checking the caller; only such bodies may be large."""
    view.streams_body = True  # type: ignore[attr-defined]
    return view


class Receiving:
    """One body that is being received. A thread closes its connection if it stalls."""

    def __init__(self, request: HttpRequest, *, wanted: bool = True) -> None:
        self.socket: socket.socket | None = request.META.get("gunicorn.socket")
        self.moved = time.monotonic()
        self.wanted = wanted

    def stands_still(self) -> bool:
        """Return whether the body took too long: for a piece if it is wanted, else in total."""
        return time.monotonic() - self.moved > (SLOWEST if self.wanted else DRAIN_WITHIN)

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            if self.socket is not None:
                self.socket.shutdown(socket.SHUT_RD)


class Bodies:
    """Bodies that this process receives; the wanted ones are counted over all processes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places = Places("uploads", most=lambda: settings.GATEHOUSE_MOST_UPLOADS)
        self._bodies: set[Receiving] = set()
        self._watching = False

    @contextlib.contextmanager
    def room(self, request: HttpRequest, *, wanted: bool = True) -> Iterator[Receiving]:
        """Hold a place for a body, or raise a 503 so that the client waits; drained ones count separately."""
        body = Receiving(request, wanted=wanted)
        place = self._places.take("") if wanted else None
        if isinstance(place, Room):
            raise busy()
        with self._lock:
            if not wanted and sum(not one.wanted for one in self._bodies) >= settings.GATEHOUSE_MOST_UPLOADS:
                raise busy()
            self._bodies.add(body)
            if not self._watching:
                self._watching = True
                threading.Thread(
                    target=self._cut_still_bodies, name="uploads-that-stand-still", daemon=True
                ).start()
        try:
            if not connection.in_atomic_block:
                connection.close()  # a slow body must not hold one
            yield body
        finally:
            with self._lock:
                self._bodies.discard(body)
            if place is not None:
                self._places.give_back(place)

    def _cut_still_bodies(self) -> None:
        while True:
            time.sleep(LOOK_EVERY)
            with self._lock:
                if not self._bodies:
                    self._watching = False
                    return
                still = [body for body in self._bodies if body.stands_still()]
            for body in still:
                body.cut()


bodies = Bodies()


def busy() -> Refused:
    sentence = f"Too many uploads at once: try again in {RETRY} s (Hugging Face clients do so by themselves)."
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE, "TooManyUploads", sentence, headers={"Retry-After": str(RETRY)}
    )


def length_of(request: HttpRequest) -> int:
    """Return the announced length; refuse a body without one."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if not (text.isascii() and text.isdigit()):
        raise Refused(
            HTTPStatus.LENGTH_REQUIRED, "LengthRequired", "The body's length is missing: send Content-Length."
        )
    return int(text)


def pieces_of(request: HttpRequest, body: Receiving) -> Pieces:
    """Yield the body's pieces; end early if the client disconnects or stalls."""
    try:
        while piece := request.read(PIECE):
            if body.wanted:
                body.moved = time.monotonic()
            yield piece
    except (OSError, UnreadablePostError):
        return


def drain(request: HttpRequest, *, most: int = DRAINED) -> None:
    """Read a little of an unwanted body: closing a connection with unread bytes would lose the answer."""
    if request.META.get("gatehouse.lingers"):
        return  # the web server gives the client time to read the answer, without holding a thread
    with contextlib.suppress(Refused), bodies.room(request, wanted=False) as body:
        left = most
        for piece in pieces_of(request, body):
            left -= len(piece)
            if left <= 0:
                return
