"""The connections of one process: psycopg's pool behind a fair line, and connections with a time limit."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from portal.database import kinds, patience
from portal.database.line import Line

SLICE = 1.0  # seconds after which the pool is asked again, and then tries to reconnect
CHECK_WITHIN = 2.0  # seconds
CONNECT_WITHIN = 5  # seconds


class Away(psycopg.OperationalError):
    """There was a free place for a connection, but the server did not provide one."""


class Connection(psycopg.Connection[Any]):
    """A connection that is closed when the server is silent for `answer_within` seconds.

    The server ends slow statements itself; this is for a server that has stopped, or whose disk has.
    """

    answer_within: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server's answer. Raises OperationalError if it does not come in time."""
        if timeout is not None or self.answer_within is None:
            return super().wait(gen, interval=interval, timeout=timeout)
        try:
            return super().wait(gen, interval=interval, timeout=self.answer_within)
        except errors._WaitTimeout as error:
            self.pgconn.finish()
            raise Away(f"nothing came from the server for {self.answer_within:.0f} s") from error


class Pool(ConnectionPool[Connection]):
    """psycopg's pool with a fair line, where a thread waits as long as its request may."""

    def __init__(self, *, size: int, most_waiting: int, **options: Any) -> None:
        super().__init__(
            connection_class=Connection,
            open=False,
            min_size=0,
            max_size=size,
            check=check,
            reconnect_timeout=SLICE / 2,
            **options,
        )
        self._line = Line(size, most_waiting)
        self._why = ""

    def getconn(self, timeout: float | None = None) -> Connection:
        """Return a connection, waiting `timeout` seconds or as long as the thread's request may still wait.

        Raises PoolTimeout, or its subclass TooManyRequests, if all are in use, and Away if the server gives
        none.
        """
        seconds, began = patience.left() if timeout is None else timeout, time.monotonic()
        try:
            self._stand_in_line(seconds)
            try:
                return self._take_connection(began + seconds)
            except BaseException:
                self._line.leave()
                raise
        except psycopg.OperationalError:
            patience.give_up()
            raise
        finally:
            patience.spend(time.monotonic() - began)

    def _stand_in_line(self, seconds: float) -> None:
        """Take a place.

        If threads with a place get no connection either, raise Away instead of "all in use".
        """
        try:
            self._line.enter(seconds)
        except (PoolTimeout, TooManyRequests) as error:
            if self._why:
                raise Away(self._why) from error
            raise

    def _take_connection(self, deadline: float) -> Connection:
        """Keep asking the pool: its own attempts to connect become ever rarer while a server is down."""
        while True:
            left = deadline - time.monotonic()
            try:
                connection = super().getconn(timeout=max(0.01, min(SLICE, left)))
            except PoolTimeout as error:
                if left <= SLICE:
                    raise Away(self._why or "the server gives no connection") from error
            else:
                connection.answer_within = kinds.current().answer_within
                self._line.moves()
                self._why = ""
                return connection

    def putconn(self, conn: Connection) -> None:
        """Take a connection back, and pass the place to the next in line."""
        try:
            super().putconn(conn)
            self._close_spare()
        finally:
            self._line.leave()

    def shrink(self, size: int) -> None:
        """Hold no more than `size` connections from now on.

        Idle ones close at once, others when they come back.
        """
        if size >= self.max_size:
            return
        self._line.lose(self.max_size - size)
        self.resize(min_size=0, max_size=size)
        self._close_spare()

    def _close_spare(self) -> None:
        """Close idle connections above the size; psycopg's pool would keep them for minutes."""
        spare = []
        with self._lock:
            while self._nconns > self.max_size and self._pool:
                spare.append(self._pool.popleft())
                self._nconns -= 1
        for connection in spare:
            self._close_connection(connection)

    def _connect(self, timeout: float | None = None) -> Connection:
        """Connect, and keep the reason if the server refuses: the pool only logs it."""
        try:
            connection = super()._connect(timeout)
        except psycopg.Error as error:
            self._why = " ".join(str(error).split())
            raise
        self._why = ""
        return connection


def check(connection: Connection) -> None:
    """Raise an error unless the server answers on this connection: a restart breaks idle ones in the pool."""
    connection.answer_within = CHECK_WITHIN
    ConnectionPool.check_connection(connection)
