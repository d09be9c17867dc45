"""Read the first bytes of files and the headers of safetensors, wherever the files are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import open_regular, parse_json
from model_ops.recovery.inspection.contents import HEAD, Head

Read = Callable[[str, int, int], bytes]  # (path, offset, bytes)
_MAX_HEADER = 32 * 1024 * 1024
_JSON_TAIL = 4096  # bytes; more white space than a file ends with
_ZIP_TAIL = 65_557  # bytes; the end of a zip with the longest comment


@dataclass(frozen=True)
class Extent:
    """The names of the tensors in a file, and its size when complete."""

    tensors: frozenset[str]
    size: int


def read_part(path: Path, offset: int, size: int) -> bytes:
    """Return bytes of a regular file; b"" for anything else and for a file that cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with open_regular(path) as file:
            return os.pread(file.fileno(), size, offset)
    except (OSError, ValueError, Refusal):
        return b""


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it is missing."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def head_of(name: str, size: int, read: Read) -> Head:
    """Return the first bytes of a file."""
    return Head(name, size, read(name, 0, min(size, HEAD)) if size else b"")


def extent_of(head: Head, read: Read) -> Extent | None:
    """Return what the header of a safetensors file says; None if it is not one."""
    length = int.from_bytes(head.raw[:8], "little")
    if head.raw[8:9] != b"{" or not 2 <= length <= _MAX_HEADER:
        return None
    if 8 + length > head.size:
        return Extent(frozenset(), 8 + length)
    try:
        header = parse_json(read(head.name, 8, length), unique=False)
        header.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in header.values()]
        sound = all(type(end) is int and 0 <= end < 2**62 for end in ends)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return Extent(frozenset(header), 8 + length + max(ends, default=0)) if sound else None


def is_cut_json(head: Head, read: Read) -> bool:
    """Return whether a JSON file that loaders read is cut off at the end."""
    if head.suffix != ".json" or not head.is_needed or not head.text.startswith("{"):
        return False
    start = max(0, head.size - _JSON_TAIL)
    return not read(head.name, start, head.size - start).rstrip().endswith((b"}", b"\0"))


def is_cut_zip(head: Head, read: Read) -> bool:
    """Return whether the end of a zip file (a `.bin`) is missing."""
    if not head.raw.startswith(b"PK\x03\x04"):
        return False
    start = max(0, head.size - _ZIP_TAIL)
    return b"PK\x05\x06" not in read(head.name, start, head.size - start)
