"""gunicorn's worker with threads, so that silent clients hold up neither its one main loop nor its threads.

What differs from `gthread` (gunicorn 27):

- A connection that is to be closed lingers until its client has closed too, for at most `LINGER` seconds: in the
  poller, not in the main loop, which would accept nobody meanwhile and, with fifteen such clients, be taken for dead
  and killed with all its downloads.
- A new connection holds a thread only once its client has sent something, not for the five seconds before.
- A request's head must be there within `HEAD_WITHIN` seconds, each further piece of it within `PIECE_WITHIN`, and of an
  answer something must be taken every `TAKEN_WITHIN` seconds; a thread would wait for ever.
- When all places are taken, the connections that have been silent longest make room: a client that finds its idle
  connection closed opens another.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from gunicorn.workers.gthread import TConn, ThreadWorker

LINGER = 2.0  # seconds; gunicorn's own
UNREAD = 65_536  # bytes of a closing client that are taken off the line before it is cut
HEAD_WITHIN = 20.0  # seconds
PIECE_WITHIN = 60  # seconds
TAKEN_WITHIN = 120  # seconds; `delivery.own` says its own for the bodies of files
STOPPING = 0.5  # seconds in which a request that is on its way to a stopping worker is still answered
ROOM = 20  # of so many places one is made free


class Worker(ThreadWorker):
    """`gthread`, but for how it closes connections."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.lingering: deque[TConn] = deque()
        self.reading: dict[TConn, float] = {}  # by the threads: whose heads they read, and since when

    def enqueue_req(self, conn: TConn) -> None:
        """To a thread if the client has sent something, else to the poller until it does."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
        else:
            _give_up_on(conn.sock)
            conn.sock.setblocking(False)
            conn.set_timeout()
            self.pending_conns.append(conn)
            self.poller.register(
                conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
            )

    def handle(self, conn: TConn) -> object:
        """One request, in a thread."""
        self.reading[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self.reading.pop(conn, None)

    def handle_request(self, req: object, conn: TConn) -> bool:
        """One request whose head has come."""
        self.reading.pop(conn, None)
        return bool(super().handle_request(req, conn))

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        """What follows an answer: gunicorn's way where the connection is kept, ours where it ends."""
        if fs.cancelled() or fs.exception() is not None or not fs.result():
            self._linger(conn)
        else:
            super().finish_request(conn, fs)

    def murder_keepalived(self, force: bool = False) -> None:
        """Closes what has been silent or has lingered for too long; called at each turn of the main loop."""
        super().murder_keepalived(force)
        now = time.monotonic()
        while self.lingering and (force or self.lingering[0].timeout <= now):
            self._end(self.lingering[0])
        for conn, since in list(self.reading.items()):
            if now - since > HEAD_WITHIN:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)  # its thread reads an end
        if self.alive and self.nr_conns >= self.worker_connections:
            self._make_room()

    def _cap_keepalive(self, deadline: float) -> None:
        """A stopping worker lets go of silent clients at once, so that it ends before its master loses patience."""
        soon = min(deadline, time.monotonic() + STOPPING)
        super()._cap_keepalive(soon)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, soon)

    def _linger(self, conn: TConn) -> None:
        conn.timeout, conn.unread = time.monotonic() + LINGER, UNREAD
        self.lingering.append(conn)
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError, KeyError):  # gone already
            self._end(conn)

    def _drain(self, conn: TConn, sock: socket.socket) -> None:
        try:
            read = len(sock.recv(4096))
        except BlockingIOError:
            return
        except OSError:
            read = 0
        conn.unread -= read
        if not read or conn.unread <= 0:
            self._end(conn)

    def _end(self, conn: TConn) -> None:
        self.lingering.remove(conn)
        self._forget(conn)

    def _make_room(self) -> None:
        for _ in range(1 + self.worker_connections // ROOM):
            silent = [waiting for waiting in (self.keepalived_conns, self.pending_conns) if waiting]
            if not silent:
                return
            self._forget(min(silent, key=lambda waiting: waiting[0].timeout).popleft())

    def _forget(self, conn: TConn) -> None:
        with suppress(OSError, KeyError, ValueError):  # no longer watched
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


def _give_up_on(sock: socket.socket) -> None:
    """Has the kernel end what a thread waits for: reading fails, and a client that takes nothing is cut."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PIECE_WITHIN, 0))
    if hasattr(socket, "TCP_USER_TIMEOUT") and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * TAKEN_WITHIN)
