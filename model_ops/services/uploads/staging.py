"""Stage content that has arrived and is in no revision yet, below `WEIGHTS_ROOT/uploads/MODEL/`.

    SHA256                     complete, its hash checked; no process has it open any more
    SHA256.SIZE.parts/NUMBER-SHA256   parts of an object that arrives in several requests
    .RANDOM                    being written by one request

A file gets its name by a rename after its last byte, so a dead client or process leaves at most a nameless file.
Content that no one commits is deleted a day after the last part arrived.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.conf import settings

from access_requests.errors import Invalid
from model_ops.recovery.formats.git_ids import blob_hash
from model_ops.services.store.blobs import sync_folder
from model_ops.services.store.git_objects import StoredFile
from model_ops.services.uploads.errors import NoRoom, NotSent, full_disk_refused

KEPT = 24 * 3600  # seconds after the last write
LONGEST_KEPT = 7 * KEPT
RESERVE = 512 * 2**20  # bytes that uploads leave free on the disk
BLOCK = 2**20


@dataclass(frozen=True)
class Staged:
    """Complete content: its id, its size, and its Git id, which large objects don't need."""

    sha256: str
    size: int
    git_oid: str = ""

    def as_file(self, path: str) -> StoredFile:
        return StoredFile(path, self.sha256, self.git_oid, self.size)


def root() -> Path:
    return Path(settings.WEIGHTS_ROOT) / "uploads"


def folder_of(model_id: int) -> Path:
    return root() / str(model_id)


def staged_path(model_id: int, sha256: str) -> Path:
    """Return the path of the complete object."""
    return folder_of(model_id) / sha256


def is_staged(model_id: int, sha256: str, size: int) -> bool:
    path = staged_path(model_id, sha256)
    return path.is_file() and path.stat().st_size == size


def check_room(size: int) -> None:
    """Refuse content that would fill the disk."""
    free = shutil.disk_usage(settings.WEIGHTS_ROOT).free
    if free < size + RESERVE:
        raise NoRoom(
            f"The server's disk has no room for {size:,} bytes: ask the operator to free some, then upload again."
        )


@contextlib.contextmanager
def writing(model_id: int) -> Iterator[tuple[Path, IO[bytes]]]:
    """Open a new file for this request; it is deleted at the end unless renamed. A full disk is refused in one sentence."""
    folder = folder_of(model_id)
    with full_disk_refused():
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{secrets.token_hex(8)}"
    try:
        with full_disk_refused(), path.open("xb", buffering=0) as stream:
            yield path, stream
    finally:
        path.unlink(missing_ok=True)


def write_all(stream: IO[bytes], block: bytes) -> None:
    """Write all bytes, since an unbuffered file may write fewer than given."""
    view = memoryview(block)
    while view:
        view = view[stream.write(view) :]


def receive_object(*, model_id: int, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
    """Receive a complete object and hash it as it arrives; refuse and delete content other than announced."""
    check_room(size)
    with writing(model_id) as (path, stream):
        digest, received = _receive_content(stream, size, pieces)
        _check_content(digest, received, sha256, size)
        os.fsync(stream.fileno())
        path.rename(staged_path(model_id, sha256))
    sync_folder(folder_of(model_id))


def _receive_content(stream: IO[bytes], size: int, pieces: Iterator[bytes]) -> tuple[str, int]:
    digest, received = hashlib.sha256(), 0
    for piece in pieces:
        received += len(piece)
        if received > size:
            break
        digest.update(piece)
        write_all(stream, piece)
    return digest.hexdigest(), received


def _check_content(digest: str, received: int, sha256: str, size: int) -> None:
    if received != size:
        raise Invalid(
            f"{received:,} bytes arrived where {size:,} were announced, and nothing was kept: upload again."
        )
    if digest != sha256:
        raise Invalid(
            f"The content that arrived is {digest}, not the announced {sha256}, and nothing was kept: "
            "the file changed or was damaged on its way; upload again."
        )


def receive_part(
    *, model_id: int, sha256: str, object_size: int, number: int, size: int, pieces: Iterator[bytes]
) -> str:
    """Receive one part and return the name of its content for the completion; a repeated part replaces the first."""
    check_room(size)
    with writing(model_id) as (path, stream):
        digest, received = _receive_content(stream, size, pieces)
        _check_content(digest, received, digest, size)
        os.fsync(stream.fileno())
        parts = _parts_folder(model_id, sha256, object_size)
        parts.mkdir(exist_ok=True)
        path.rename(parts / f"{number:05d}-{digest}")
    return digest


def _parts_folder(model_id: int, sha256: str, size: int) -> Path:
    return folder_of(model_id) / f"{sha256}.{size}.parts"


def complete_object(*, model_id: int, sha256: str, size: int, digests: Sequence[str]) -> None:
    """Join the parts and check the result. Idempotent after a success.

    Each part is deleted after it is joined, so that the disk holds little more than one copy.
    """
    if is_staged(model_id, sha256, size):
        return
    parts = _parts_folder(model_id, sha256, size)
    try:
        lock = os.open(parts, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise NotSent("No part of this file has arrived: upload the file again.") from error
    try:
        # One completion at a time: a client that lost the answer may ask again during hashing.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_staged(model_id, sha256, size):
            return
        found = [parts / f"{number:05d}-{digest}" for number, digest in enumerate(digests, 1)]
        if missing := [number for number, path in enumerate(found, 1) if not path.is_file()]:
            raise NotSent(f"Part {missing[0]} has not arrived: upload the file again.")
        check_room(0)
        with writing(model_id) as (path, stream):
            digest, joined = _receive_content(stream, size, _join_parts(found))
            shutil.rmtree(parts, ignore_errors=True)
            _check_content(digest, joined, sha256, size)
            os.fsync(stream.fileno())
            path.rename(staged_path(model_id, sha256))
        sync_folder(folder_of(model_id))
    finally:
        os.close(lock)


def _join_parts(parts: Sequence[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb", buffering=0) as stream:
            while block := stream.read(BLOCK):
                yield block
        part.unlink(missing_ok=True)


def stage_bytes(*, model_id: int, content: bytes) -> Staged:
    """Stage a small file that came with a commit."""
    git = blob_hash(len(content))
    git.update(content)
    staged = Staged(hashlib.sha256(content).hexdigest(), len(content), git.hexdigest())
    if not is_staged(model_id, staged.sha256, staged.size):
        check_room(staged.size)
        with writing(model_id) as (path, stream):
            write_all(stream, content)
            os.fsync(stream.fileno())
            path.rename(staged_path(model_id, staged.sha256))
    return staged


def clean(*, now: float | None = None) -> int:
    """Delete content that no one has committed; return the number of files and folders of parts.

    Everything of a model stays for a day after its last part arrived, since an upload may take days, but at most a week.
    """
    gone, now = 0, now or time.time()
    for folder in root().glob("*"):
        written: dict[Path, float] = {}  # when each file, or the newest part in a folder, arrived
        for path in folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                inside = [child.stat().st_mtime for child in path.iterdir()] if path.is_dir() else []
                written[path] = max([path.stat().st_mtime, *inside])
        newest = max(written.values(), default=0.0)
        for path, last in written.items():
            kept = last if path.name.startswith(".") else min(newest, last + LONGEST_KEPT - KEPT)
            if kept < now - KEPT:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    gone += 1
    return gone
