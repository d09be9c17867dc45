"""A small file system that can really be full: a tmpfs in a user namespace, reached through its process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

MOUNT = 'mount -t tmpfs -o "$2" none "$1" && echo ready && exec cat'
FILLER = ".filler"


@contextmanager
def small_disk(folder: Path, options: str) -> Generator[Path]:
    """Mount at the empty `folder` for one process alone, and hand out the path by which all others see it.

    `options` are those of tmpfs, such as `size=8m`. Skips where the system allows no user namespaces.
    """
    folder.mkdir()
    holder = subprocess.Popen(
        ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh", str(folder), options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        try:
            if holder.stdout.readline() != "ready\n":
                pytest.skip("this system allows no file systems in user namespaces")
            yield Path(f"/proc/{holder.pid}/root{folder}")
        finally:
            holder.kill()
            holder.wait()


def fill(disk: Path, *, leave: int = 0) -> None:
    """Take all room but `leave` bytes."""
    free = os.statvfs(disk)
    with (disk / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_bsize - leave, 1))


def take_names(disk: Path, *, leave: int) -> None:
    """Leave room for bytes, but for this many new files only: the system says that the disk is full, and `df` does not."""
    (disk / FILLER).mkdir()
    for number in range(os.statvfs(disk).f_favail - leave):
        (disk / FILLER / str(number)).touch()


def clear(disk: Path) -> None:
    """Give back what `fill` or `take_names` took."""
    filler = disk / FILLER
    if filler.is_dir():
        for path in filler.iterdir():
            path.unlink()
        filler.rmdir()
    else:
        filler.unlink()
