"""The directory of a zip file whose entries are stored as they are: name -> where its bytes lie.

Only what PyTorch writes is read (one disk, no encryption, no compression, zip64 where needed). Everything
is taken from the central directory, and the local headers must agree with it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from model_ops.recovery.errors import Refusal

MAX_DIRECTORY = 32 * 1024 * 1024
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX32 = 0xFFFFFFFF


@dataclass(frozen=True)
class ZipEntry:
    """The stored bytes of one entry."""

    name: str
    offset: int
    nbytes: int


def read_zip_directory(path: Path) -> dict[str, ZipEntry]:
    """Every entry of the zip at `path`; refuses compressed, encrypted, doubled or overlapping entries."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            entries = _entries(file, path.name, size)
            located = [_locate(file, path.name, size, name, header, n) for name, header, n in entries]
    except (struct.error, UnicodeDecodeError, OSError) as error:
        raise Refusal(
            f"{path.name} cannot be read as a PyTorch zip file; it is damaged or cut short."
        ) from error
    _check_overlaps(path.name, located)
    return {entry.name: entry for entry in located}


def _directory_place(file: BinaryIO, name: str, size: int) -> tuple[int, int, int]:
    """(entries, bytes, offset) of the central directory."""
    tail_size = min(size, _END.size + 0xFFFF)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise Refusal(
            f"{name} is not a zip file; checkpoints saved before PyTorch 1.6 are not read, save it again."
        )
    _, disk, first, here, count, nbytes, offset, _ = _END.unpack_from(tail, at)
    if disk != first or here != count:
        raise Refusal(f"{name} is a zip file in several parts, which is not read.")
    locator = size - tail_size + at - _END64_LOCATOR.size
    if locator >= 0:
        file.seek(locator)
        signature, _, where, _ = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
        if signature == b"PK\x06\x07":
            count, nbytes, offset = _zip64_place(file, name, size, where)
    if nbytes > MAX_DIRECTORY or offset + nbytes > size or count > nbytes // _CENTRAL.size:
        raise Refusal(f"The directory of {name} does not fit into the file; it is damaged.")
    return count, nbytes, offset


def _zip64_place(file: BinaryIO, name: str, size: int, where: int) -> tuple[int, int, int]:
    if where + _END64.size > size:
        raise Refusal(f"The directory of {name} lies outside the file; it is damaged.")
    file.seek(where)
    signature, _, _, _, _, _, _, count, nbytes, offset = _END64.unpack(file.read(_END64.size))
    if signature != b"PK\x06\x06":
        raise Refusal(f"The zip64 directory of {name} is damaged.")
    return count, nbytes, offset


def _entries(file: BinaryIO, name: str, size: int) -> list[tuple[str, int, int]]:
    """(name, offset of the local header, bytes) of each entry in the central directory."""
    count, nbytes, offset = _directory_place(file, name, size)
    file.seek(offset)
    directory = file.read(nbytes)
    result: dict[str, tuple[str, int, int]] = {}
    at = 0
    for _ in range(count):
        entry, at = _central_entry(directory, at, name)
        if entry[0] in result:
            raise Refusal(f"{name} holds the entry {entry[0][:200]!r} twice.")
        result[entry[0]] = entry
    return list(result.values())


def _central_entry(directory: bytes, at: int, file_name: str) -> tuple[tuple[str, int, int], int]:
    fields = _CENTRAL.unpack_from(directory, at)
    signature, flags, method = fields[0], fields[3], fields[4]
    packed, nbytes, name_size, extra_size, comment_size = fields[8:13]
    header = fields[16]
    if signature != b"PK\x01\x02":
        raise Refusal(f"The directory of {file_name} is damaged.")
    start = at + _CENTRAL.size
    name = directory[start : start + name_size].decode("utf-8")
    extra = directory[start + name_size : start + name_size + extra_size]
    nbytes, packed, header = _zip64_sizes(extra, nbytes, packed, header)
    if method != 0 or packed != nbytes:
        raise Refusal(
            f"{file_name} holds compressed entries, which are not read; save it again with torch.save."
        )
    if flags & 0x1:
        raise Refusal(f"{file_name} holds encrypted entries, which are not read.")
    return (name, header, nbytes), start + name_size + extra_size + comment_size


def _zip64_sizes(extra: bytes, nbytes: int, packed: int, header: int) -> tuple[int, int, int]:
    """The 64-bit values that replace those that say 0xffffffff, in the order the format fixes."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            body, values = extra[at + 4 : at + 4 + length], []
            for value in (nbytes, packed, header):
                if value == _MAX32:
                    value = struct.unpack_from("<Q", body)[0]
                    body = body[8:]
                values.append(value)
            return values[0], values[1], values[2]
        at += 4 + length
    return nbytes, packed, header


def _locate(file: BinaryIO, file_name: str, size: int, name: str, header: int, nbytes: int) -> ZipEntry:
    if header + _LOCAL.size > size:
        raise Refusal(f"The entry {name[:200]!r} lies outside of {file_name}; it is damaged.")
    file.seek(header)
    fields = _LOCAL.unpack(file.read(_LOCAL.size))
    signature, method, name_size, extra_size = fields[0], fields[3], fields[9], fields[10]
    if signature != b"PK\x03\x04" or method != 0 or file.read(name_size) != name.encode("utf-8"):
        raise Refusal(f"The entry {name[:200]!r} of {file_name} is not what its directory says.")
    offset = header + _LOCAL.size + name_size + extra_size
    if offset + nbytes > size:
        raise Refusal(f"The entry {name[:200]!r} reaches beyond the end of {file_name}; it is cut short.")
    return ZipEntry(name, offset, nbytes)


def _check_overlaps(file_name: str, entries: list[ZipEntry]) -> None:
    position = 0
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.nbytes)):
        if entry.offset < position:
            raise Refusal(f"Entries of {file_name} overlap at {entry.name[:200]!r}; it is damaged.")
        position = entry.offset + entry.nbytes
