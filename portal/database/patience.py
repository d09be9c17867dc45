"""Track how long a thread's request may still wait for connections, over all its waits."""

from __future__ import annotations

import threading

from portal.database import kinds

_of_thread = threading.local()


def begin(seconds: float | None = None) -> None:
    """Give this thread `seconds` to wait, or the default for its kind of process."""
    _of_thread.left = kinds.current().wait if seconds is None else seconds


def end() -> None:
    """Forget the request: from now on, each wait of this thread has the full time of its kind of process."""
    _of_thread.left = None


def left() -> float:
    """Return the remaining seconds."""
    found: float | None = getattr(_of_thread, "left", None)
    return kinds.current().wait if found is None else found


def spend(seconds: float) -> None:
    """Subtract the time that was spent waiting."""
    if getattr(_of_thread, "left", None) is not None:
        _of_thread.left = max(0.0, _of_thread.left - seconds)


def give_up() -> None:
    """Let a request that was refused a connection never wait again: its answer must do without one."""
    if getattr(_of_thread, "left", None) is not None:
        _of_thread.left = 0.0
