"""Compare the CRC-32 that torch.save stores for each tensor's bytes while they are being read for the sum.

A zip entry may hold more than one shard reads: several tensors, or more bytes than its tensors. In that case
the shard's record says which ranges were read, and the rest is read once at the end of the run.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Failure
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.formats.tensors import StoredEntry, TensorRef
from model_ops.recovery.planning.blocks import Block
from model_ops.recovery.planning.plan import Plan
from model_ops.recovery.system.control import Control

_CHUNK = 4 * 1024 * 1024
_MOST_RANGES = (
    1000  # per entry; with more ranges, the rest is read at the end instead of being sorted again and again
)
_POLYNOMIAL = 0xEDB88320  # the CRC-32 polynomial, lowest power first
_ONE = 1 << 31

Ranges = list[list[int]]  # [begin, end, CRC-32] of each range of an entry


@dataclass(slots=True)
class _Range:
    """The bytes from `begin` to `end` of an entry."""

    begin: int
    end: int
    crc32: int


class _Coverage:
    """The ranges of one entry that were read, sorted by where they begin."""

    def __init__(self, ref: TensorRef, entry: StoredEntry) -> None:
        self.ref, self.entry, self.done = ref, entry, False
        self.ranges: list[_Range] = []
        self.seen = 0  # bytes in all ranges; overlapping ranges count twice
        self._begins: list[int] = []

    def update(self, offset: int, view: memoryview) -> None:
        """Add the bytes at `offset` of the file to the range that ends there; skip known ones."""
        begin = offset - self.entry.offset
        end = begin + len(view)
        index = bisect_right(self._begins, begin) - 1
        last = self.ranges[index] if index >= 0 else None
        if last is None or last.end < begin:
            self._begins.insert(index + 1, begin)
            self.ranges.insert(index + 1, _Range(begin, end, zlib.crc32(view)))
            self.seen += end - begin
        elif last.end < end:
            self.seen += end - last.end
            last.crc32 = zlib.crc32(view[last.end - begin :], last.crc32)
            last.end = end


class EntryChecks:
    """The checks of one shard's entries. Used by one thread, the reader, which has the bytes in memory."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._coverage: dict[tuple[str, int], _Coverage] = {}

    def update(self, block: Block, view: memoryview) -> None:
        """Add a block's inputs, which were read into `view`.

        Raises Failure if an entry is complete and damaged.
        """
        for ref, offset, size, place in (read for piece in block.pieces for read in piece.reads()):
            entry = ref.entry
            if entry is None:
                continue
            key = (ref.path, entry.offset)
            coverage = self._coverage.get(key)
            if coverage is None:
                coverage = self._coverage[key] = _Coverage(ref, entry)
            if coverage.done or len(coverage.ranges) > _MOST_RANGES:
                continue  # already checked, or read again at the end
            coverage.update(offset, view[place : place + size])
            if coverage.seen < entry.nbytes:
                continue
            whole = _whole_crc32(
                [(each.begin, each.end, each.crc32) for each in coverage.ranges], entry.nbytes
            )
            if whole is not None:
                _check_entry(self._plan, ref, entry, whole)
                coverage.done, coverage.ranges = True, []

    def open_entries(self) -> dict[str, Ranges]:
        """Return the ranges that were read of incomplete entries, for the shard's record."""
        return {
            _entry_key(self._plan, coverage.ref): [
                [each.begin, each.end, each.crc32] for each in coverage.ranges
            ]
            for coverage in self._coverage.values()
            if not coverage.done
        }


def check_open_entries(plan: Plan, records: list[dict[str, Any]], control: Control) -> None:
    """Read the rest of the entries that no shard has read completely. Raises Failure if one is damaged."""
    seen: dict[str, Ranges] = {}
    for record in records:
        for key, ranges in record["open_entries"].items():
            seen.setdefault(key, []).extend(ranges)
    if not seen:
        return
    refs = (ref for shard in plan.shards for task in shard.tasks for ref in (task.first, *task.terms))
    known = {_entry_key(plan, ref): (ref, ref.entry) for ref in refs if ref.entry is not None}
    with closing(Reader(control)) as reader:
        for key in sorted(seen.keys() & known.keys()):
            ref, entry = known[key]
            _check_entry(plan, ref, entry, _read_rest(ref, entry, seen[key], reader, control))


def _read_rest(ref: TensorRef, entry: StoredEntry, ranges: Ranges, reader: Reader, control: Control) -> int:
    buffer = memoryview(bytearray(min(_CHUNK, entry.nbytes)))

    def read(begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        for start in range(begin, end, _CHUNK):
            control.tick()
            view = buffer[: min(_CHUNK, end - start)]
            reader.read_into(ref.path, entry.offset + start, view)
            yield start, start + len(view), zlib.crc32(view)

    known = [(begin, end, value) for begin, end, value in ranges if end <= entry.nbytes]
    crc32 = _whole_crc32(known, entry.nbytes, read)
    assert crc32 is not None  # noqa: S101 - the missing bytes were read
    return crc32


def _whole_crc32(
    ranges: list[tuple[int, int, int]],
    nbytes: int,
    read: Callable[[int, int], Iterable[tuple[int, int, int]]] | None = None,
) -> int | None:
    """Return the CRC-32 of all bytes, combined from those of their ranges.

    Gaps are read; without `read`, a gap makes the result None.

    A range that overlaps the one before it cannot be used, since its CRC-32 cannot be cut.
    """
    crc32, position = 0, 0
    longest_first = sorted(ranges, key=lambda each: (each[0], -each[1]))
    for begin, end, value in [*longest_first, (nbytes, nbytes, 0)]:
        if begin > position:
            if read is None:
                return None
            for _, stop, part in read(position, begin):
                crc32, position = combine(crc32, part, stop - position), stop
        if begin == position:
            crc32, position = combine(crc32, value, end - begin), end
    return crc32 if position == nbytes else None


def _check_entry(plan: Plan, ref: TensorRef, entry: StoredEntry, found: int) -> None:
    if found != entry.crc32:
        role, name = _role_and_name(plan, ref)
        raise Failure(
            f"The {role}'s {name} is damaged: the bytes of {ref.name} do not match the checksum that torch.save "
            "stored with them. Download the file again, then run the same command."
        )


def _entry_key(plan: Plan, ref: TensorRef) -> str:
    """Return an entry's key in records, which hold no paths."""
    role, name = _role_and_name(plan, ref)
    return f"{role}/{name}/{ref.entry.offset if ref.entry else 0}"


def _role_and_name(plan: Plan, ref: TensorRef) -> tuple[str, str]:
    """Return the role (base, diff or tuned) and the file's name."""
    path = Path(ref.path)
    return plan.base.role if path.parent == plan.base.folder else plan.first.role, path.name


def combine(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two byte strings joined, from that of each, like zlib's `crc32_combine`.

    `length` is the length of the second one.
    """
    return _multiply_polynomials(_power_of_x(length), first) ^ second


@lru_cache(maxsize=1024)
def _power_of_x(length: int) -> int:
    """Return x to the power of 8 * length, modulo the polynomial."""
    result, factor = _ONE, _ONE >> 8
    while length:
        if length & 1:
            result = _multiply_polynomials(factor, result)
        factor = _multiply_polynomials(factor, factor)
        length >>= 1
    return result


def _multiply_polynomials(first: int, second: int) -> int:
    """Return the product of two polynomials, modulo the polynomial."""
    result, bit = 0, _ONE
    while bit:
        if first & bit:
            result ^= second
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
        bit >>= 1
    return result
