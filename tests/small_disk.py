"""A small file system that can really fill up: a tmpfs in a user namespace, reached through its process."""

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
    """Mount a tmpfs at the empty `folder` for one process, and yield the path where all others see it.

    `options` are those of tmpfs, such as `size=8m`. Skips the test if the system allows no user namespaces.
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
    """Fill the disk up, leaving `leave` bytes free."""
    free = os.statvfs(disk)
    with (disk / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_bsize - leave, 1))


def take_names(disk: Path, *, leave: int) -> None:
    """Use up inodes until only `leave` new files fit: the disk is full, but `df` shows free space."""
    (disk / FILLER).mkdir()
    for number in range(os.statvfs(disk).f_favail - leave):
        (disk / FILLER / str(number)).touch()


def clear(disk: Path) -> None:
    """Free what `fill` or `take_names` took."""
    filler = disk / FILLER
    if filler.is_dir():
        for path in filler.iterdir():
            path.unlink()
        filler.rmdir()
    else:
        filler.unlink()
