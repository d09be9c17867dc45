"""How long the request that a thread answers may still wait for a connection, all its waits together."""

from __future__ import annotations

import threading

from portal.database import kinds

_of_thread = threading.local()


def begin(seconds: float | None = None) -> None:
    """Give this thread so many seconds, or those of its kind of process."""
    _of_thread.left = kinds.current().wait if seconds is None else seconds


def end() -> None:
    """Forget the request: what this thread does now waits as its process does, each time from the beginning."""
    _of_thread.left = None


def left() -> float:
    """Return the seconds that are left."""
    found: float | None = getattr(_of_thread, "left", None)
    return kinds.current().wait if found is None else found


def spend(seconds: float) -> None:
    """Take off what was waited."""
    if getattr(_of_thread, "left", None) is not None:
        _of_thread.left = max(0.0, _of_thread.left - seconds)


def give_up() -> None:
    """Let a request that was refused a connection wait for none again: its answer must come without one."""
    if getattr(_of_thread, "left", None) is not None:
        _of_thread.left = 0.0
