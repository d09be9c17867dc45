"""gunicorn's worker with threads that never wait for a client's head or small body.

Differences from `gthread` (gunicorn 27):

- The main loop reads heads and bodies of up to `arriving.SMALL` bytes, without waiting; a thread gets a
  request once it is complete. Slow clients are cut off by `arriving`'s minimum rate, which counts bytes over
  time, not only silence.
- Larger bodies are read by a thread while they arrive, but only if the application's `streams` allows it, and
  at most `most_streams` at once. Others are answered 413 unread, and bodies without a length 411.
- Unfinished requests are limited in number and in bytes, and unfinished bodies for each address. To make
  room, the oldest of the address with the most is ended; a request that arrives in one piece, as page views
  do, is never refused.
- No header changes gunicorn's idea of peer, scheme or path, whatever its settings say; `portal.proxies` does
  that.
- A worker that stops drains (`portal.draining`).
- A connection that is being closed stays in the poller until its client has closed it too.
- When all places are taken, the connections that have been silent longest are closed.
- An answer to a slow client is sent by the main loop (`outgoing`), with the same minimum rate as bodies. If
  the answer is larger than `outgoing.MOST` bytes, a thread waits for the excess, with that minimum rate too.
  All these answers together are limited to `UNSENT` bytes: the oldest of the sender with the most is cut off.
  The body of a file holds a thread, counted by `model_ops.services.downloads.in_flight`, and the client must
  take something every `TAKEN_WITHIN` seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.http.message import Request
from gunicorn.workers.gthread import TConn

from portal.arriving import FLOOR, GRACE, SMALL, Arriving
from portal.draining import DrainingWorker
from portal.outgoing import Outgoing, pieces
from portal.refusing import BUSY, CROWDED, NO_LENGTH, TOO_LARGE, TOO_SLOW, Refusal
from portal.shares import Shares

LINGER = 2.0  # seconds; gunicorn's own
UNREAD = 2**16  # bytes of a closing client that are read before it is cut off
# For clients that are still sending a refused body, so that they read why; a pause after each piece keeps the
# cost low.
LINGER_REFUSED, UNREAD_REFUSED, PAUSE = 30.0, 2**24, 0.05
PIECE_WITHIN = 60  # seconds
TAKEN_WITHIN = 120  # seconds; `delivery.own` sets its own for the bodies of files
ROOM = 20  # one of this many places is freed
STREAMS = 16  # threads that may wait for large bodies, unless the application sets another number
UNFINISHED_SHARE = 2  # one of this many places may hold an unfinished request
BODIES_EACH = 32  # unfinished bodies of one address
HELD = 2**26  # bytes of all unfinished requests
UNSENT = 2**27  # bytes of all answers to slow clients
PLACE = 2**14  # bytes that an unfinished request counts for in addition to its own
LOOK_EVERY = 0.5  # seconds
OWN_SETTINGS = {
    "forwarded_allow_ips": "", "forwarder_headers": "", "secure_scheme_headers": {}, "header_map": "drop",
    "proxy_protocol": "off", "proxy_allow_ips": "",
}  # fmt: skip


class Worker(DrainingWorker):
    """`gthread`, except that requests are collected before a thread takes them."""

    wsgi: Callable[..., Iterable[bytes]]  # gunicorn's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.cfg.is_ssl:
            raise RuntimeError(
                "This worker ends no TLS: leave --certfile out, and let the server in front do it."
            )
        for name, value in OWN_SETTINGS.items():
            self.cfg.set(name, value)
        os.environ.pop("SCRIPT_NAME", None)
        self.arriving: dict[TConn, Arriving] = {}  # oldest first
        self.streaming: set[TConn] = set()
        self.lingering: set[TConn] = set()
        self.unfinished: Shares[TConn] = Shares()  # requests that are arriving: their bytes, and a place each
        self.bodies: Shares[TConn] = Shares()  # those whose head is complete
        self.sending: Shares[TConn] = Shares()  # bytes of answers that the main loop is sending
        self.paused: list[TConn] = []  # some of `lingering`
        self.looked = self.resumed = 0.0
        self.held = 0  # bytes of the requests that threads are handling

    def load_wsgi(self) -> None:
        """Load the application, and its rules for bodies and senders if it has any."""
        super().load_wsgi()
        self.application = self.wsgi
        self.wsgi = self._call_application
        self.streams: Callable[[str, str], bool] = getattr(self.application, "streams", lambda *_: False)
        self.most_streams: int = getattr(self.application, "most_streams", STREAMS)
        self.drains: Callable[[], object] = getattr(self.application, "drains", lambda: None)
        self.sender: Callable[[str, str], str] = getattr(self.application, "sender", lambda peer, _: peer)

    def _call_application(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        environ["gatehouse.lingers"] = True  # a view that refuses a body need not drain it
        answered: Iterable[bytes] = self.application(environ, start_response)
        is_file = isinstance(answered, environ["wsgi.file_wrapper"]) and not environ.get("gatehouse.counted")
        return pieces(answered) if is_file else answered

    def enqueue_req(self, conn: TConn) -> None:
        """Add a new connection, which waits in the poller, as a kept one does."""
        # The kernel limits how long a thread waits: reading fails, and a client that takes nothing is cut
        # off.
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PIECE_WITHIN, 0))
        if hasattr(socket, "TCP_USER_TIMEOUT") and conn.sock.family in (socket.AF_INET, socket.AF_INET6):
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * TAKEN_WITHIN)
        conn.sock, conn.gone = Outgoing(conn.sock), False
        self._await_request(conn)

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        """Continue after an answer: with the next request, which may have arrived already, or the end."""
        self.streaming.discard(conn)
        self.held -= conn.held
        conn.keep = not fs.cancelled() and fs.exception() is None and bool(fs.result())
        if not conn.sock.rest:
            self._go_on(conn)
            return
        conn.began = time.monotonic()
        conn.sock.start()
        self.sending.put(conn, conn.sender, len(conn.sock.rest))
        try:
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._send_more, conn))
        except (OSError, ValueError, KeyError):  # already gone
            self._close_connection(conn)
        while self.sending.size > UNSENT:
            self._close_connection(self.sending.oldest_of_the_most())

    def _send_more(self, conn: TConn, sock: Outgoing) -> None:
        try:
            sock.send_more()
        except OSError:
            self._close_connection(conn)
            return
        self.sending.put(conn, conn.sender, len(sock.rest))
        if not sock.rest:
            self.sending.drop(conn)
            self.poller.unregister(sock)
            self._go_on(conn)

    def _go_on(self, conn: TConn) -> None:
        if conn.keep:
            self._await_request(conn, conn.parser.unreader.take_buffered())
        else:
            self._let_linger(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Run one turn of the main loop.

        Skip events of connections that an earlier event of the same turn ended: their callbacks would act on
        a connection that is gone, and an error here ends the worker.
        """
        try:
            for key, _ in self.poller.select(min(timeout, PAUSE) if self.paused else timeout):
                if self.poller.get_map().get(key.fd) is key:
                    key.data(key.fileobj)
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
        if self.paused and (now := time.monotonic()) - self.resumed > PAUSE:
            self.resumed = now
            paused, self.paused = self.paused, []
            for conn in self.lingering.intersection(paused):
                self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain_lingering, conn))

    def murder_keepalived(self, force: bool = False) -> None:
        """Close connections that were silent, slow or lingering too long, at each turn of the main loop."""
        super().murder_keepalived(force)
        now = time.monotonic()
        if force or now - self.looked > LOOK_EVERY:
            self.looked = now
            self._look_at_connections(now, force)
        if not self.alive or self.nr_conns < self.worker_connections:
            return
        for _ in range(1 + self.worker_connections // ROOM):  # places are freed
            if self.keepalived_conns:
                self._close_connection(self.keepalived_conns.popleft())
            elif self.lingering:
                self._end_lingering(min(self.lingering, key=lambda conn: conn.timeout))
            elif self.unfinished:
                self._close_connection(self.unfinished.oldest_of_the_most())
            elif self.sending:
                self._close_connection(self.sending.oldest_of_the_most())

    def _look_at_connections(self, now: float, force: bool) -> None:
        for conn in [conn for conn in self.lingering if force or conn.timeout <= now]:
            self._end_lingering(conn)
        for conn, arriving in list(self.arriving.items()):
            if force:
                self._close_connection(conn)
            elif arriving.is_late(now) or now > self.stopping_at:
                self._give_up_request(conn, TOO_SLOW)
        for conn in list(self.sending):
            if force or now - conn.began > GRACE + conn.sock.sent / FLOOR:
                self._close_connection(conn)
        for conn in list(self.streaming):
            if conn.parser.unreader.is_slow(now):
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)  # its thread reads end of file

    def _await_request(self, conn: TConn, rest: bytes = b"") -> None:
        """Wait for a connection's next request, part of which may already be here."""
        conn.parser, conn.unread, conn.patience = None, UNREAD, LINGER
        try:
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read_piece, conn))
        except (OSError, ValueError, KeyError):  # already gone
            self._close_connection(conn)
            return
        if rest:
            self._take_piece(conn, rest)
            return
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, self.stopping_at)
        self.keepalived_conns.append(conn)

    def _read_piece(self, conn: TConn, sock: socket.socket) -> None:
        try:
            piece = sock.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if conn not in self.arriving:
            self.keepalived_conns.remove(conn)
        if piece:
            self._take_piece(conn, piece)
        else:
            self._close_connection(conn)

    def _take_piece(self, conn: TConn, piece: bytes) -> None:
        """Add a piece that arrived; pass the request to a thread, refuse it, or keep waiting."""
        now = time.monotonic()
        if (arriving := self.arriving.get(conn)) is None:
            arriving = self.arriving[conn] = Arriving(self.cfg, conn.client, now=now)
            conn.peer = arriving.sender
            arriving.sender = self.sender(conn.peer, "")
        if arriving.feed(piece, now=now) and (request := arriving.request) is not None:
            forwarded = ",".join(value for name, value in request.headers if name == "X-FORWARDED-FOR")
            arriving.sender = self.sender(conn.peer, forwarded)
            if arriving.is_chunked:
                self._refuse_request(conn, request, NO_LENGTH)
                return
            if not arriving.complete and arriving.length > SMALL:
                self._begin_stream(conn, arriving, request)
                return
            if not arriving.complete and request._expected_100_continue:
                request._expected_100_continue = False
                with contextlib.suppress(OSError):
                    conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if arriving.complete:
            self._hand_over(conn, arriving)
        else:
            self._keep_bounds(conn, arriving)

    def _begin_stream(self, conn: TConn, arriving: Arriving, request: Request) -> None:
        if not self.streams(request.method, request.path or ""):
            self._refuse_request(conn, request, TOO_LARGE)
        elif len(self.streaming) >= self.most_streams:
            self._refuse_request(conn, request, BUSY)
        else:
            self.streaming.add(conn)
            conn.unread, conn.patience = UNREAD_REFUSED, LINGER_REFUSED  # if its view refuses it
            self._hand_over(conn, arriving, conn.sock)

    def _hand_over(self, conn: TConn, arriving: Arriving, sock: socket.socket | None = None) -> None:
        self.poller.unregister(conn.sock)
        self._drop_unfinished(conn)
        conn.held, conn.sender = len(arriving.data), arriving.sender
        conn.sock.start()
        self.held += conn.held
        conn.parser, conn.initialized, conn.data_ready = arriving.hand_over(sock), True, True
        super().enqueue_req(conn)

    def _keep_bounds(self, newest: TConn, arriving: Arriving) -> None:
        """Keep unfinished requests within their limits, at the cost of the address with the most."""
        sender = arriving.sender
        self.unfinished.put(newest, sender, PLACE + len(arriving.data))
        if not arriving.in_head:
            self.bodies.put(newest, sender)
            if self.bodies.number_of(sender) > BODIES_EACH:
                self._give_up_request(self.bodies.oldest_of(sender), CROWDED)
        most = max(1, self.worker_connections // UNFINISHED_SHARE)
        while self.unfinished and (
            len(self.unfinished) > most
            or self.held + self.unfinished.size - PLACE * len(self.unfinished) > HELD
        ):
            self._give_up_request(self.unfinished.oldest_of_the_most(), CROWDED)

    def _drop_unfinished(self, conn: TConn) -> Arriving | None:
        """Remove a connection from those whose request is unfinished. Idempotent."""
        self.unfinished.drop(conn)
        self.bodies.drop(conn)
        return self.arriving.pop(conn, None)

    def _give_up_request(self, conn: TConn, refusal: Refusal) -> None:
        """End an unfinished request; one without a complete head gets no answer."""
        request = self.arriving[conn].request
        if request is None:
            self._close_connection(conn)
        else:
            self._refuse_request(conn, request, refusal)

    def _refuse_request(self, conn: TConn, request: Request, refusal: Refusal) -> None:
        """Answer in the main loop, as much as the socket takes, and let the connection end."""
        self._drop_unfinished(conn)
        headers, body = refusal.answer(path=request.path or "")
        lines = [f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}", "Connection: close"]
        head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers), "", ""])
        with contextlib.suppress(OSError):
            conn.sock.send(head.encode() + (b"" if request.method == "HEAD" else body))
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        conn.unread, conn.patience = UNREAD_REFUSED, LINGER_REFUSED
        self._let_linger(conn)

    def _let_linger(self, conn: TConn) -> None:
        conn.timeout = time.monotonic() + conn.patience
        self.lingering.add(conn)
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain_lingering, conn))
        except (OSError, ValueError, KeyError):  # already gone
            self._end_lingering(conn)

    def _drain_lingering(self, conn: TConn, sock: socket.socket) -> None:
        try:
            read = len(sock.recv(2**16))
        except BlockingIOError:
            return
        except OSError:
            read = 0
        conn.unread -= read
        if not read or conn.unread <= 0:
            self._end_lingering(conn)
        elif conn.patience == LINGER_REFUSED:
            self.poller.unregister(sock)
            self.paused.append(conn)

    def _end_lingering(self, conn: TConn) -> None:
        self.lingering.discard(conn)
        self._close_connection(conn)

    def _close_connection(self, conn: TConn) -> None:
        """Close a connection and free its place. Idempotent."""
        if conn.gone:
            return
        conn.gone = True
        with contextlib.suppress(OSError, KeyError, ValueError):  # no longer watched
            self.poller.unregister(conn.sock)
        self._drop_unfinished(conn)
        self.sending.drop(conn)
        self.nr_conns -= 1
        conn.close()
