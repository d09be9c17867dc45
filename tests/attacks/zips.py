"""Zip files assembled by hand, so that any field can be false."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One entry. Fields that are None get their true value; `header` is the offset given in the directory."""

    name: bytes
    data: bytes
    local_name: bytes | None = None
    header: int | None = None
    size: int | None = None
    local_size: int | None = None
    method: int = 0
    local_method: int | None = None
    flags: int = 0
    local_flags: int | None = None
    extra: bytes = b""
    listed: bool = True
    gap: bytes = b""


@dataclass(frozen=True)
class End:
    """The values in the end records."""

    count: int | None = None
    size: int | None = None
    offset: int | None = None
    disk: int = 0
    comment: bytes = b""
    zip64: tuple[int, int, int] | None = None
    where: int | None = None
    after_directory: bytes = b""


def pack(entries: Sequence[Entry], end: End | None = None, *, prefix: bytes = b"") -> bytes:
    """Return the bytes of a zip; offsets count from its own first byte, after `prefix`."""
    end = end or End()
    body, listed = b"", []
    for entry in entries:
        listed.append(_central(entry, len(prefix) + len(body)) if entry.listed else b"")
        body += _local(entry) + entry.data + entry.gap
    body = prefix + body
    directory = b"".join(listed)
    count = sum(map(bool, listed)) if end.count is None else end.count
    size = len(directory) if end.size is None else end.size
    offset = len(body) if end.offset is None else end.offset
    tail = end.after_directory
    if end.zip64 is not None:
        where = len(body) + len(directory) + len(tail) if end.where is None else end.where
        tail += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, end.zip64[0], *end.zip64)
        tail += struct.pack("<4sLQL", b"PK\6\7", 0, where, 1)
    tail += struct.pack(
        "<4s4H2LH", b"PK\5\6", end.disk, end.disk, count, count, size, offset, len(end.comment)
    )
    return body + directory + tail + end.comment


def _local(entry: Entry) -> bytes:
    name = entry.name if entry.local_name is None else entry.local_name
    size = len(entry.data) if entry.local_size is None else entry.local_size
    flags = entry.flags if entry.local_flags is None else entry.local_flags
    method = entry.method if entry.local_method is None else entry.local_method
    fields = (20, flags, method, 0, 0, zlib.crc32(entry.data), size, size, len(name), 0)
    return struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name


def _central(entry: Entry, header: int) -> bytes:
    size = len(entry.data) if entry.size is None else entry.size
    header = header if entry.header is None else entry.header
    fields = (20, 20, entry.flags, entry.method, 0, 0, zlib.crc32(entry.data), size, size)
    tail = (len(entry.name), len(entry.extra), 0, 0, 0, 0, header)
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields, *tail) + entry.name + entry.extra


def zip64_extra(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)
