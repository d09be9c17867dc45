"""Store content below `WEIGHTS_ROOT/blobs/` under its SHA-256, written once and never changed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from model_ops.file_access_lists import private_mode
from model_ops.recovery.formats.git_ids import blob_id
from model_ops.services.store.git_objects import StoredFile


def blob_path(sha256: str) -> Path:
    """Return the path of content with this SHA-256, stored or not."""
    return Path(settings.WEIGHTS_ROOT) / "blobs" / sha256[:2] / sha256


def is_stored(file: StoredFile) -> bool:
    """Return whether the content is in the store; only complete files are ever renamed into it."""
    path = blob_path(file.sha256)
    return path.is_file() and path.stat().st_size == file.size


def store_file(*, file: StoredFile, source: Path) -> None:
    """Move a finished, synced file into the store by rename; existing content stays.

    It is safe to repeat after a crash: a source that was moved before is found in the store.
    """
    if is_stored(file):
        source.unlink(missing_ok=True)
        return
    if source.stat().st_size != file.size:
        raise OSError(errno.EIO, "the file changed its size after it was written", str(source))
    target = _folder_for(file.sha256) / file.sha256
    source.chmod(private_mode(source))
    source.rename(target)
    sync_folder(target.parent)


def link_files(files: Mapping[StoredFile, Path]) -> None:
    """Hard-link finished, synced files into the store; skip those that are already there, or gone."""
    folders = set()
    for file, source in files.items():
        if is_stored(file):
            continue
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            source.chmod(private_mode(source))
            (_folder_for(file.sha256) / file.sha256).hardlink_to(source)
            folders.add(blob_path(file.sha256).parent)
    for folder in folders:
        sync_folder(folder)


def store_bytes(*, path: str, content: bytes) -> StoredFile:
    """Write a small file into the store, synced, and return its record."""
    file = StoredFile(path, hashlib.sha256(content).hexdigest(), blob_id(content), len(content))
    if is_stored(file):
        return file
    folder = _folder_for(file.sha256)
    fresh = folder / f".{file.sha256}.{secrets.token_hex(4)}"
    try:
        with fresh.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), private_mode(fresh))
            os.fsync(stream.fileno())
        fresh.rename(folder / file.sha256)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(folder)
    return file


def _folder_for(sha256: str) -> Path:
    folder = blob_path(sha256).parent
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    return folder


def sync_folder(folder: Path) -> None:
    """Sync the folder, so that renames in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
