"""Advisory locks on files, between processes and, if the file system carries flock, between machines."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from model_ops.recovery.errors import Failure, what_lacks
from model_ops.recovery.system.control import Control


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Yield a descriptor to lock.

    Closing it releases the lock. A link in the file's place is not followed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Return whether the lock was free. On failure, a lock already held in the other mode is lost."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(descriptor: int, path: Path) -> bool:
    """Return whether the path still names the locked file: its previous holder may have deleted it."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, control: Control) -> Iterator[None]:
    """Wait until no one else holds the file's lock, and hold it."""
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(opened(path))
            while not try_lock(descriptor):
                control.pause()
        except OSError as error:
            raise Failure(
                f"{path.name} cannot be locked: {error.strerror}.",
                lacks=str(what_lacks(error).get("lacks", "")),
            ) from error
        yield
