"""Write one file in order and hash it in the same pass.

O_DIRECT where the file system has it, so that a large output does not push everything else out of the page
cache; else plain writes that are synced and dropped as they go.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Failure
from model_ops.recovery.git_ids import blob_hash, in_lfs, pointer_id

FILE_MODE = 0o644
FOLDER_MODE = 0o755
_SECTOR = 4096
_DROP_EVERY = 32 * 1024 * 1024
_DIRECT = getattr(os, "O_DIRECT", 0)


def write_failure(name: str, error: OSError) -> Failure:
    """The sentence for a write that did not work."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Failure(
            f"The disk is full; {name} could not be written. Make room and run the same command again."
        )
    return Failure(f"{name} could not be written: {error.strerror}.")


class Hashes:
    """Of a file named `name` of `size` bytes: SHA-256, and the SHA-1 by which git knows it."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self.sha256 = hashlib.sha256()
        self._contents = None if in_lfs(name) else blob_hash(size)

    def update(self, data: bytes | memoryview) -> None:
        """Bytes in file order."""
        self.sha256.update(data)
        if self._contents is not None:
            self._contents.update(data)

    def line(self) -> dict[str, Any]:
        """The entry of the manifest's `files`."""
        sha256 = self.sha256.hexdigest()
        git_sha1 = self._contents.hexdigest() if self._contents else pointer_id(sha256, self.size)
        return {"path": self.name, "size": self.size, "sha256": sha256, "git_sha1": git_sha1}


class OutputFile:
    """A new file of known size, written block by block; buffers must be aligned to 4096 for O_DIRECT."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._unsynced = 0
        try:
            self._plain = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            os.fchmod(self._plain, FILE_MODE)
            os.ftruncate(self._plain, size)
        except OSError as error:
            raise write_failure(path.name, error) from error
        self._direct = _open_direct(path)

    def write(self, view: memoryview, offset: int) -> None:
        """Write a block; what does not fill whole sectors goes through the page cache."""
        aligned = len(view) // _SECTOR * _SECTOR if self._direct is not None and offset % _SECTOR == 0 else 0
        try:
            if aligned and not self._write_direct(view[:aligned], offset):
                aligned = 0
            if aligned < len(view):
                self._write_plain(view[aligned:], offset + aligned)
        except OSError as error:
            raise write_failure(self.path.name, error) from error

    def _write_direct(self, view: memoryview, offset: int) -> bool:
        try:
            _write_all(self._direct, view, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._close_direct()
            return False
        return True

    def _write_plain(self, view: memoryview, offset: int) -> None:
        _write_all(self._plain, view, offset)
        self._unsynced += len(view)
        if self._unsynced >= _DROP_EVERY:
            self._sync_and_drop()

    def _sync_and_drop(self) -> None:
        os.fdatasync(self._plain)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._plain, 0, 0, os.POSIX_FADV_DONTNEED)
        self._unsynced = 0

    def finish(self) -> None:
        """On the disk, with everything written."""
        try:
            os.fsync(self._plain)
        except OSError as error:
            raise write_failure(self.path.name, error) from error

    def _close_direct(self) -> None:
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None

    def close(self) -> None:
        """Let go of the file, whatever happened."""
        self._close_direct()
        with contextlib.suppress(OSError):
            os.close(self._plain)


def _open_direct(path: Path) -> int | None:
    if not _DIRECT:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | _DIRECT)
    except OSError:
        return None


def _write_all(descriptor: int | None, view: memoryview, offset: int) -> None:
    assert descriptor is not None  # noqa: S101 - the caller looked
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def write_small(path: Path, data: bytes) -> dict[str, Any]:
    """Write a small file durably; returns its line of the manifest."""
    hashes = Hashes(path.name, len(data))
    hashes.update(data)
    try:
        with path.open("wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), FILE_MODE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_failure(path.name, error) from error
    return hashes.line()


def sync_folder(folder: Path) -> None:
    """Make names and renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
