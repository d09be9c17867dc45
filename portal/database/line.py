"""A fair line for a number of places.

When no place has come free for a second, only a few threads may wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from psycopg_pool import PoolTimeout, TooManyRequests

STUCK = 1.0  # seconds in which nobody got what they were in line for
LOOK_EVERY = 0.25  # seconds


class Line:
    """Threads that want one of `places`, first come, first served.

    In a burst, requests wait as long as they may, because the line moves. When it does not move, because
    statements hang or the database is down, soon every thread would be waiting, so no more than
    `most_waiting` may wait then.
    """

    def __init__(self, places: int, most_waiting: int) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._most_waiting = most_waiting
        self._waiting: deque[threading.Event] = deque()
        self._moved = time.monotonic()

    def enter(self, seconds: float) -> None:
        """Take a place, waiting at most this many seconds.

        Raises:
            PoolTimeout: no place became free in time.
            TooManyRequests: the line is stuck, and enough threads are waiting already.
        """
        with self._lock:
            if self._free > 0 and not self._waiting:
                self._free -= 1
                return
            if self._is_stuck() and len(self._waiting) >= self._most_waiting:
                raise TooManyRequests("every connection is in use, and enough requests wait for one")
            turn = threading.Event()
            self._waiting.append(turn)
        try:
            self._wait_for_turn(turn, time.monotonic() + seconds)
        except BaseException:
            with self._lock:
                given = turn.is_set()
                if not given:
                    self._waiting.remove(turn)
            if given:  # in the meantime, so the place goes to the next one
                self.leave()
            raise

    def _wait_for_turn(self, turn: threading.Event, deadline: float) -> None:
        """Wait until `leave` gives a place to this turn, and has taken it out of the line."""
        while not turn.wait(max(0.0, min(LOOK_EVERY, deadline - time.monotonic()))):
            with self._lock:
                if turn.is_set():
                    return
                late = time.monotonic() >= deadline
                crowded = self._is_stuck() and self._waiting.index(turn) >= self._most_waiting
                if late or crowded:
                    why = "every connection is in use"
                    raise PoolTimeout(why) if late else TooManyRequests(why)

    def leave(self) -> None:
        """Give the place to the thread that has waited longest, or mark it as free."""
        with self._lock:
            if self._waiting and self._free >= 0:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def lose(self, places: int) -> None:
        """Reduce the number of places by `places`. Places in use disappear when they are left."""
        with self._lock:
            self._free -= places

    def moves(self) -> None:
        """Note that a thread with a place got what it was in line for."""
        self._moved = time.monotonic()

    def _is_stuck(self) -> bool:
        return time.monotonic() - self._moved > STUCK
