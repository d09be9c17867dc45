"""The disk's own speed: copy the diff to the output folder while reading the base, and sync.

There are three ways because none is fastest everywhere; the engine is compared with the fastest.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.bench.errors import BenchError
from tests.bench.recovery.sets import WeightSet

_BLOCKS = ("bs=8M", "status=none")
WAYS = {
    "cp": ("cp", "{source}", "{target}"),
    "dd oflag=direct": ("dd", "if={source}", "of={target}", "oflag=direct", *_BLOCKS),
    "dd iflag=direct oflag=direct": (
        "dd", "if={source}", "of={target}", "iflag=direct", "oflag=direct", *_BLOCKS,
    ),
}  # fmt: skip


def time_copy(weights: WeightSet, way: str) -> float | None:
    """Return the seconds of a copy, one process per file, or None if the file system does not support it."""
    weights.out.mkdir()
    targets = [weights.out / path.name for path in weights.diff_files]
    started = time.monotonic()
    readers = [_start(("dd", f"if={path}", "of=/dev/null", *_BLOCKS)) for path in weights.base_files]
    copiers = [
        _start(tuple(part.format(source=source, target=target) for part in WAYS[way]))
        for source, target in zip(weights.diff_files, targets, strict=True)
    ]
    read = [process.wait() == 0 for process in readers]
    copied = [process.wait() == 0 for process in copiers]
    if all(copied):
        _sync([*targets, weights.out])
    seconds = time.monotonic() - started
    if not all(read) or (way == "cp" and not all(copied)):
        raise BenchError(f"The set in {weights.folder} could not be copied; is the disk full?")
    return seconds if all(copied) else None


def _start(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _sync(paths: list[Path]) -> None:
    """Sync the files, then their folder."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
