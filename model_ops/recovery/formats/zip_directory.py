"""Read the directory of a zip file with uncompressed entries: name -> where its bytes are.

Only what PyTorch writes is accepted (one disk, no encryption, no compression, zip64 if needed). Attacks rely
on two readers seeing different files in one zip, so there is only one way to read this one:

    local header, name, padding, bytes, descriptor | ... | central directory | zip64 end, locator | end

from the first byte to the last without a gap or a comment, and all repeated values must agree.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import open_regular

MAX_DIRECTORY = 32 * 1024 * 1024
MAX_ENTRIES = 100_000  # one per storage; read in half a second
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _DESCRIBED_AFTER = 0x1, 0x8  # flags; with the second, sizes also follow the bytes
_DESCRIPTOR = 24  # bytes, at most


@dataclass(frozen=True)
class ZipEntry:
    """The stored bytes of one entry, and the CRC-32 that the file gives for them; it has not been checked."""

    name: str
    offset: int
    nbytes: int
    crc32: int


@dataclass(frozen=True)
class _Listed:
    """One line of the central directory; `header` is where the entry begins."""

    name: str
    header: int
    nbytes: int
    crc32: int
    flags: int


def read_zip_directory(path: Path) -> dict[str, ZipEntry]:
    """Return every entry of the zip.

    Refuse compressed, encrypted, duplicate, hidden or overlapping entries.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            count, nbytes, offset = _directory_place(file, path.name, size)
            listed = _read_directory(file, path.name, count, nbytes, offset)
            found = [_locate_entry(file, path.name, size, entry) for entry in listed]
    except (struct.error, OSError) as error:
        raise Refusal(
            f"{path.name} cannot be read as a PyTorch zip file; it is damaged or cut short."
        ) from error
    # the entries follow each other from the first byte to the directory
    position, room = 0, 0
    for entry, place in sorted(zip(listed, found, strict=True), key=lambda pair: pair[0].header):
        if entry.header < position:
            raise Refusal(f"Entries of {path.name} overlap at {entry.name[:200]!r}; it is damaged.")
        if entry.header > position + room:
            raise Refusal(f"{path.name} holds bytes before {entry.name[:200]!r} that belong to no entry.")
        position = place.offset + place.nbytes
        room = _DESCRIPTOR if entry.flags & _DESCRIBED_AFTER else 0
    if not position <= offset <= position + room:
        raise Refusal(f"The directory of {path.name} does not follow its last entry; it is damaged.")
    return {entry.name: entry for entry in found}


def _directory_place(file: BinaryIO, name: str, size: int) -> tuple[int, int, int]:
    """Return (entries, bytes, offset) of the central directory, which ends where the end records begin."""
    at = size - _END.size
    file.seek(max(0, at))
    end = file.read(_END.size)
    if not end.startswith(b"PK\x05\x06"):
        file.seek(0)
        if file.read(4) == b"PK\x03\x04":
            raise Refusal(
                f"{name} does not end as a zip file does: its download did not finish, or data was appended. Download it "
                "again, for instance with `hf download`, then try again."
            )
        raise Refusal(
            f"{name} is not a zip file; checkpoints saved before PyTorch 1.6 are not read, save it again."
        )
    _, disk, first, here, count, nbytes, offset, comment = _END.unpack(end)
    if disk or first or here != count:
        raise Refusal(f"{name} is a multi-part zip file, which is not supported.")
    if comment:
        raise Refusal(f"{name} ends in the middle of a comment; it is cut short.")
    (count, nbytes, offset), at = _zip64_place(file, name, at, (count, nbytes, offset))
    if nbytes > MAX_DIRECTORY or count > min(MAX_ENTRIES, nbytes // _CENTRAL.size):
        raise Refusal(f"{name} claims a directory of {count} entries in {nbytes} bytes, which is not read.")
    if offset + nbytes != at:
        raise Refusal(f"The directory of {name} is not where its end says; it is damaged.")
    return count, nbytes, offset


def _zip64_place(
    file: BinaryIO, name: str, at: int, end: tuple[int, int, int]
) -> tuple[tuple[int, int, int], int]:
    """Return the zip64 record's values in place of `end`, and where it begins.

    Both are as given if there is no such record.
    """
    at_locator = at - _END64_LOCATOR.size
    file.seek(max(0, at_locator))
    locator = file.read(_END64_LOCATOR.size)
    if at_locator < 0 or not locator.startswith(b"PK\x06\x07"):
        return end, at
    _, disk, where, disks = _END64_LOCATOR.unpack(locator)
    if disk or disks > 1 or where + _END64.size > at_locator:
        raise Refusal(f"The zip64 directory of {name} is not where its locator says; it is damaged.")
    file.seek(where)
    record = _END64.unpack(file.read(_END64.size))
    signature, length, disk, first, here, count, nbytes, offset = record[0], record[1], *record[4:]
    if signature != b"PK\x06\x06" or where + 12 + length != at_locator:
        raise Refusal(f"The zip64 directory of {name} is damaged.")
    if disk or first or here != count:
        raise Refusal(f"{name} is a multi-part zip file, which is not supported.")
    for said, meant, unsaid in zip(end, (count, nbytes, offset), (_MAX16, _MAX32, _MAX32), strict=True):
        if said not in {meant, unsaid}:
            raise Refusal(f"{name} has two directories that do not agree; it was tampered with.")
    return (count, nbytes, offset), where


def _read_directory(file: BinaryIO, name: str, count: int, nbytes: int, offset: int) -> list[_Listed]:
    """Return each entry in the central directory, which holds nothing else."""
    file.seek(offset)
    directory = file.read(nbytes)
    result: dict[str, _Listed] = {}
    at = 0
    for _ in range(count):
        entry, at = _parse_entry(directory, at, name)
        if entry.name in result:
            raise Refusal(f"{name} holds the entry {entry.name[:200]!r} twice.")
        result[entry.name] = entry
    if at != len(directory):
        raise Refusal(f"The directory of {name} holds more than the {count} entries it counts.")
    return list(result.values())


def _parse_entry(directory: bytes, at: int, file_name: str) -> tuple[_Listed, int]:
    """Return the entry that the central directory lists at a position, and the position after it."""
    fields = _CENTRAL.unpack_from(directory, at)
    signature, flags, method = fields[0], fields[3], fields[4]
    crc32, packed, nbytes, name_size, extra_size, comment_size = fields[7:13]
    header = fields[16]
    if signature != b"PK\x01\x02":
        raise Refusal(f"The directory of {file_name} is damaged.")
    start = at + _CENTRAL.size
    name = directory[start : start + name_size].decode("utf-8", "backslashreplace")
    # an entry is never unpacked to its name; but a name made to climb out of a folder is no accident
    parts = name.removesuffix("/").split("/")
    if not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts):
        raise Refusal(f"{file_name} holds an entry with the unsafe name {name[:200]!r}.")
    extra = directory[start + name_size : start + name_size + extra_size]
    nbytes, packed, header = _zip64_sizes(extra, nbytes, packed, header)
    if flags & _ENCRYPTED:
        raise Refusal(f"{file_name} holds encrypted entries, which are not read.")
    if method != 0 or packed != nbytes:
        raise Refusal(
            f"{file_name} holds compressed entries, which are not read; save it again with torch.save."
        )
    return _Listed(name, header, nbytes, crc32, flags), start + name_size + extra_size + comment_size


def _zip64_sizes(extra: bytes, nbytes: int, packed: int, header: int) -> tuple[int, int, int]:
    """Return the 64-bit values that replace those of 0xffffffff, in the order that the format fixes."""
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


def _locate_entry(file: BinaryIO, file_name: str, size: int, entry: _Listed) -> ZipEntry:
    where = f"The entry {entry.name[:200]!r}"
    if entry.header + _LOCAL.size > size:
        raise Refusal(f"{where} lies outside of {file_name}; it is damaged.")
    file.seek(entry.header)
    fields = _LOCAL.unpack(file.read(_LOCAL.size))
    signature, flags, method, crc32, sizes = fields[0], fields[2], fields[3], fields[6], fields[7:9]
    name_size, extra_size = fields[9], fields[10]
    unsaid = {0} if flags & _DESCRIBED_AFTER else set()
    known = {entry.nbytes, _MAX32} | unsaid
    if (
        (signature, flags, method) != (b"PK\x03\x04", entry.flags, 0)
        or not known.issuperset(sizes)
        or crc32 not in {entry.crc32} | unsaid
        or file.read(name_size) != entry.name.encode("utf-8")
    ):
        raise Refusal(f"{where} in {file_name} does not match the zip directory.")
    offset = entry.header + _LOCAL.size + name_size + extra_size
    if offset + entry.nbytes > size:
        raise Refusal(f"{where} reaches beyond the end of {file_name}; it is cut short.")
    if flags & _DESCRIBED_AFTER:
        file.seek(offset + entry.nbytes)
        descriptor = file.read(8)
        if descriptor.startswith(b"PK\x07\x08") and descriptor[4:] != entry.crc32.to_bytes(4, "little"):
            raise Refusal(f"{where} in {file_name} does not match the zip directory.")
    return ZipEntry(entry.name, offset, entry.nbytes, entry.crc32)
