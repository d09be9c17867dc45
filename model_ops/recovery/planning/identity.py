"""Identify inputs by name, size, time and a sample of their bytes; a base also by its tensors.

A sample (header and evenly spaced pages) is enough to notice that a folder now contains something else, and
takes milliseconds. A whole input is hashed only if a diff names the base it was made from.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.formats.folder import check_opened

_PAGE = 4096
_SAMPLES = 64
_HEAD = 64 * 1024


@dataclass(frozen=True)
class FileIdentity:
    """One input file when the plan was made. `sample` is a SHA-256 over its head and some pages."""

    name: str
    size: int
    mtime_ns: int
    sample: str

    def public(self) -> dict[str, Any]:
        """Return what a manifest says: nothing that differs between two copies of the same file."""
        return {"name": self.name, "size": self.size, "sample_sha256": self.sample}


def identify(folder: Path, names: tuple[str, ...] | list[str]) -> tuple[FileIdentity, ...]:
    """Return the identity of each file, in the order given."""
    return tuple(_identify_file(folder / name) for name in names)


def _identify_file(path: Path) -> FileIdentity:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            check_opened(path, descriptor)
            status = os.fstat(descriptor)
            digest = hashlib.sha256(str(status.st_size).encode())
            digest.update(os.pread(descriptor, _HEAD, 0))
            for number in range(_SAMPLES):
                digest.update(os.pread(descriptor, _PAGE, status.st_size * number // _SAMPLES))
            digest.update(os.pread(descriptor, _PAGE, max(0, status.st_size - _PAGE)))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refusal(f"{path.name} cannot be read: {error.strerror}.") from error
    return FileIdentity(path.name, status.st_size, status.st_mtime_ns, digest.hexdigest())


def check_unchanged(folder: Path, files: tuple[FileIdentity, ...]) -> None:
    """Raise Failure if a file has changed since the plan was made."""
    for file in files:
        try:
            status = (folder / file.name).stat()
        except OSError as error:
            raise Failure(f"The input {file.name} vanished under way; run the same command again.") from error
        if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
            raise Failure(f"The input {file.name} was changed under way; nothing was made of it.")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
