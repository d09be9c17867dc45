"""Read ranges of the inputs into given memory, leaving nothing behind in the page cache."""

from __future__ import annotations

import os

from model_ops.recovery.control import Control
from model_ops.recovery.errors import Failure


class Reader:
    """Open files by path; one thread at a time. `pread` and never a mapping: mapped pages count as memory."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._open: dict[str, int] = {}

    def read_into(self, path: str, offset: int, view: memoryview, *, drop: bool = True) -> None:
        """Fill `view` with the bytes at `offset`; with `drop` their cached pages are given back.

        Raises Failure, and Cancelled before the read if an end was asked for.
        """
        self._control.check()
        descriptor = self._descriptor(path)
        done, size = 0, len(view)
        while done < size:
            try:
                got = os.preadv(descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise Failure(f"{os.path.basename(path)} cannot be read: {error.strerror}.") from error  # noqa: PTH119
            if got == 0:
                raise Failure(f"The input {os.path.basename(path)} was cut short under way.")  # noqa: PTH119
            done += got
        self._control.count(read=size)
        if drop and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)

    def _descriptor(self, path: str) -> int:
        if path not in self._open:
            try:
                self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise Failure(f"{os.path.basename(path)} cannot be opened: {error.strerror}.") from error  # noqa: PTH119
        return self._open[path]

    def close(self) -> None:
        """Close every file."""
        while self._open:
            os.close(self._open.popitem()[1])
