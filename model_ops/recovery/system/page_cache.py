"""Giving cached pages back, so that one large job does not push everything else out of memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# File systems cache in folios of up to this size; one that reaches out of the range given back is kept whole.
FOLIO = 2 * 1024 * 1024
KEPT_IN_CACHE = 4 * 1024**3  # what will be read again soon stays in the page cache, up to this size


def drop_pages(descriptor: int, offset: int = 0, size: int = 0) -> None:
    """Give back the clean pages of a range; `size` 0 means to the end of the file.

    Only a hint: where the system does not take it, nothing happens.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def drop_file(path: Path) -> None:
    """Give back all of a file that nobody here reads any more, with what the system read ahead by itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            drop_pages(descriptor)
        finally:
            os.close(descriptor)


class ReadBehind:
    """Gives back the ranges of one file after they were read, and at the end what lay across their edges."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._ranges: list[tuple[int, int]] = []

    def drop(self, offset: int, size: int) -> None:
        """This range was read; the folio that it shares with the one before it can go now."""
        _drop_with_edges(self.descriptor, offset, offset + size, after=0)
        begin = offset
        if self._ranges and self._ranges[-1][1] == offset:
            begin = self._ranges.pop()[0]
        self._ranges.append((begin, offset + size))

    def finish(self) -> None:
        """Nothing more will be read here."""
        for begin, end in self._ranges:
            _drop_with_edges(self.descriptor, begin, end, after=FOLIO)
        self._ranges.clear()


def _drop_with_edges(descriptor: int, begin: int, end: int, *, after: int) -> None:
    begin = max(0, begin - FOLIO)
    drop_pages(descriptor, begin, end + after - begin)
