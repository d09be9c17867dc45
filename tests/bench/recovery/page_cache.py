"""Make inputs cold or warm, in the same way for each program measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

_CHUNK = 8 * 1024 * 1024


def sync_and_drop(files: Iterable[Path]) -> None:
    """Make files cold: written to disk, and dropped from the page cache."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_all(files: Iterable[Path]) -> None:
    """Make files warm by reading every byte."""
    buffer = bytearray(_CHUNK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


PREPARE: dict[str, Callable[[Iterable[Path]], None]] = {"cold": sync_and_drop, "warm": read_all}
