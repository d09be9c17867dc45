"""Release cached pages, so that one large job does not push everything else out of memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# File systems cache in folios of up to this size. A folio that is only partly in the released range is kept.
FOLIO = 2 * 1024 * 1024
KEPT_IN_CACHE = 4 * 1024**3  # data that will be read again soon stays in the page cache, up to this size


def drop_pages(descriptor: int, offset: int = 0, size: int = 0) -> None:
    """Release the clean pages of a range; `size` 0 means to the end of the file.

    This is only a hint: if the system ignores it, nothing happens.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def drop_file(path: Path) -> None:
    """Release all pages of a file that this process no longer reads, including the system's read-ahead."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            drop_pages(descriptor)
        finally:
            os.close(descriptor)


class ReadBehind:
    """Page-cache cleanup for one file: each range after it is read, and finally the folios at the edges."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._ranges: list[tuple[int, int]] = []

    def drop(self, offset: int, size: int) -> None:
        """Release a range that was read, with the folio that it shares with the range before it."""
        _drop_with_edges(self.descriptor, offset, offset + size, after=0)
        begin = offset
        if self._ranges and self._ranges[-1][1] == offset:
            begin = self._ranges.pop()[0]
        self._ranges.append((begin, offset + size))

    def finish(self) -> None:
        """Release the rest; nothing more will be read here."""
        for begin, end in self._ranges:
            _drop_with_edges(self.descriptor, begin, end, after=FOLIO)
        self._ranges.clear()


def _drop_with_edges(descriptor: int, begin: int, end: int, *, after: int) -> None:
    begin = max(0, begin - FOLIO)
    drop_pages(descriptor, begin, end + after - begin)
