"""Write one file in order and hash it in the same pass.

O_DIRECT is used if the file system supports it, so that a large output does not push everything else out of
the page cache; otherwise plain writes are synced and dropped as they go.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Failure
from model_ops.recovery.formats.git_ids import blob_hash, in_lfs, pointer_id
from model_ops.recovery.system.page_cache import drop_pages

# A portal's own runs write for its user alone; a run from the command line writes for all, whatever the umask.
PRIVATE = "GATEHOUSE_PRIVATE_FILES"
FILE_MODE, FOLDER_MODE = (0o600, 0o700) if os.environ.get(PRIVATE) == "1" else (0o644, 0o755)
_SECTOR = 4096
_DROP_EVERY = 32 * 1024 * 1024
_DIRECT = getattr(os, "O_DIRECT", 0)
_NOT_DIRECT = {errno.EINVAL, errno.EOPNOTSUPP}  # some file systems report this only at the first write


def write_failure(name: str, error: OSError) -> Failure:
    """Return the failure for a write that did not work."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Failure(
            f"The disk is full; {name} could not be written. Make room and run the same command again.",
            lacks="room",
        )
    return Failure(f"{name} could not be written: {error.strerror}.")


def create(path: Path) -> int:
    """Return the descriptor of a new file. An old file or link is removed first, never written through."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


class Hashes:
    """The hashes of a file called `name` with `size` bytes: SHA-256, and the SHA-1 by which git knows it."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self.sha256 = hashlib.sha256()
        self._contents = None if in_lfs(name, size) else blob_hash(size)

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes, in file order."""
        self.sha256.update(data)
        if self._contents is not None:
            self._contents.update(data)

    def line(self) -> dict[str, Any]:
        """Return the entry for `files` in the manifest."""
        sha256 = self.sha256.hexdigest()
        git_sha1 = self._contents.hexdigest() if self._contents else pointer_id(sha256, self.size)
        return {"path": self.name, "size": self.size, "sha256": sha256, "git_sha1": git_sha1}


class OutputFile:
    """A new file of known size, written block by block; buffers must be aligned to 4096 for O_DIRECT."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._unsynced = 0
        try:
            self._plain = create(path)
            os.fchmod(self._plain, FILE_MODE)
            os.ftruncate(self._plain, size)
        except OSError as error:
            raise write_failure(path.name, error) from error
        self._direct: int | None = None
        if _DIRECT:
            with contextlib.suppress(OSError):
                self._direct = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | _DIRECT)

    def write(self, view: memoryview, offset: int) -> None:
        """Write a block; a rest that does not fill whole sectors goes through the page cache."""
        aligned = len(view) // _SECTOR * _SECTOR if offset % _SECTOR == 0 else 0
        try:
            done = self._write_direct(view[:aligned], offset)
            self._unsynced += len(view) - done
            while done < len(view):
                done += _write_some(self._plain, view[done:], offset + done)
            if self._unsynced >= _DROP_EVERY:
                os.fdatasync(self._plain)
                drop_pages(self._plain)
                self._unsynced = 0
        except OSError as error:
            raise write_failure(self.path.name, error) from error

    def _write_direct(self, view: memoryview, offset: int) -> int:
        """Return how many bytes, in whole sectors, were written without the page cache."""
        done = 0
        while self._direct is not None and done < len(view):
            try:
                written = _write_some(self._direct, view[done:], offset + done)
            except OSError as error:
                if error.errno not in _NOT_DIRECT:
                    raise
                self._close_direct()
                return done
            done += written // _SECTOR * _SECTOR
            if written % _SECTOR:
                return done
        return done

    def finish(self) -> None:
        """Write everything to the disk, and drop it from the page cache."""
        try:
            os.fsync(self._plain)
        except OSError as error:
            raise write_failure(self.path.name, error) from error
        drop_pages(self._plain)

    def _close_direct(self) -> None:
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None

    def close(self) -> None:
        """Close the file, whatever happened."""
        self._close_direct()
        with contextlib.suppress(OSError):
            os.close(self._plain)


def _write_some(descriptor: int, view: memoryview, offset: int) -> int:
    """Write at least one byte or raise an error: a disk that takes nothing is not retried for ever."""
    written = os.pwrite(descriptor, view, offset)
    if written == 0:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return written


def write_small(path: Path, data: bytes) -> dict[str, Any]:
    """Write a small file durably and return its line of the manifest."""
    return write_parts(path, len(data), [data])


def write_parts(path: Path, size: int, parts: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a file of any `size` from its parts, like `write_small`."""
    hashes = Hashes(path.name, size)
    try:
        with os.fdopen(create(path), "wb") as file:
            unsynced = 0
            for part in parts:
                hashes.update(part)
                file.write(part)
                unsynced += len(part)
                if unsynced >= _DROP_EVERY:
                    file.flush()
                    os.fdatasync(file.fileno())
                    drop_pages(file.fileno())
                    unsynced = 0
            os.fchmod(file.fileno(), FILE_MODE)
            file.flush()
            os.fsync(file.fileno())
            drop_pages(file.fileno())
    except OSError as error:
        raise write_failure(path.name, error) from error
    return hashes.line()


def sync_folder(folder: Path) -> None:
    """Make names and renames in `folder` durable, if the file system can and this user may open it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    finally:
        os.close(descriptor)
