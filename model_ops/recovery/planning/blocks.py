"""Cut an output file into blocks, and each block into pieces of the header and of tensors.

A block is a range of the *file*, so that all writes but the last are aligned; blocks for the CPU are shorter
than those for a device. No element is split between two blocks: every offset is a multiple of the item size.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from model_ops.recovery.formats.dtypes import ITEM_SIZE
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.memory import BLOCK_SIZE
from model_ops.recovery.planning.plan import ShardPlan
from model_ops.recovery.planning.rules import TensorTask

_ALIGN = 64


class Member(NamedTuple):
    """Elements `start` to `start + elements` of one tensor."""

    task: TensorTask
    start: int
    elements: int


@dataclass(frozen=True)
class Piece:
    """Elements of one tensor, or of consecutive ones that are made alike, written at `position` of the block.

    `inputs` are the places in the slot's input buffer for the bytes of `first` and of each term, one member
    after another. Only a piece with one member has new rows: only its terms' first `from_base` elements
    exist.
    """

    members: tuple[Member, ...]
    count: int
    position: int
    inputs: tuple[int, ...]
    from_base: int

    @property
    def task(self) -> TensorTask:
        """Return the first member's task; all members have the same rule and dtypes."""
        return self.members[0].task

    @property
    def start(self) -> int:
        """Return the first element of the first member."""
        return self.members[0].start

    @property
    def inputs_end(self) -> int:
        """Return where its inputs end."""
        last = (self.task.first, *self.task.terms)[-1]
        return self.inputs[-1] + self.count * last.item_size

    @cached_property
    def _member_ends(self) -> list[int]:
        """Return where each member ends, in elements of the piece."""
        return list(accumulate(member.elements for member in self.members))

    def within(self, start: int, count: int) -> list[tuple[str, int, int]]:
        """Return (tensor, first element in the part, elements) of each member in a part of the piece."""
        if len(self.members) == 1:
            return [(self.task.name, 0, count)]
        found, position = [], start
        for number in range(bisect_right(self._member_ends, start), len(self.members)):
            end = min(self._member_ends[number], start + count)
            found.append((self.members[number].task.name, position - start, end - position))
            position = end
            if position == start + count:
                break
        return found

    def reads(self) -> Iterator[tuple[TensorRef, int, int, int]]:
        """Yield (tensor, position in its file, bytes, place in the input buffer) for each range to read."""
        for number in range(len(self.inputs)):
            yield from self.reads_of(number)

    def reads_of(self, number: int) -> Iterator[tuple[TensorRef, int, int, int]]:
        """Yield the same for one input: 0 is `first`, followed by the terms."""
        place, alone = self.inputs[number], len(self.members) == 1
        for task, start, elements in self.members:
            ref = task.terms[number - 1] if number else task.first
            item = ref.item_size
            size = (self.from_base if number and alone else elements) * item
            if size:
                yield ref, ref.offset + start * item, size, place
            place += size


@dataclass(frozen=True)
class Block:
    """Bytes `offset` to `offset + size` of the file: header bytes first, then pieces of tensors."""

    offset: int
    size: int
    header: bytes
    pieces: tuple[Piece, ...]

    @cached_property
    def input_size(self) -> int:
        """Return the bytes of input buffer needed."""
        return self.pieces[-1].inputs_end if self.pieces else 0

    def spans(self) -> Iterator[tuple[TensorRef, int, int, int]]:
        """Yield the same as `reads` for all pieces, with neighbouring ranges joined."""
        span: tuple[TensorRef, int, int, int] | None = None
        for read in (read for piece in self.pieces for read in piece.reads()):
            if span:
                ref, offset, size, place = span
                same_file = ref.path == read[0].path and ref.packed is None
                if same_file and offset + size == read[1] and place + size == read[3]:
                    span = (ref, offset, size + read[2], place)
                    continue
                yield span
            span = read
        if span:
            yield span


def cut(
    shard: ShardPlan, item_size: int, block_size: int = BLOCK_SIZE, *, together: bool = False
) -> list[Block]:
    """Return all blocks of a shard in file order.

    With `together`, consecutive tensors that are made alike share a piece.
    """
    starts = [placed.offset for placed in shard.tensors]
    return [
        _cut_block(shard, starts, item_size, offset, min(block_size, shard.size - offset), together)
        for offset in range(0, shard.size, block_size)
    ]


def _cut_block(
    shard: ShardPlan, starts: list[int], item_size: int, offset: int, size: int, together: bool
) -> Block:
    pieces: list[Piece] = []
    members: list[Member] = []
    place, position = 0, 0
    first = max(0, bisect_right(starts, offset) - 1)
    for placed in shard.tensors[first : bisect_left(starts, offset + size)]:
        begin, end = max(placed.offset, offset), min(placed.offset + placed.nbytes, offset + size)
        if begin >= end:
            continue
        item = ITEM_SIZE[placed.task.whole] if placed.task.whole else item_size
        member = Member(placed.task, (begin - placed.offset) // item, (end - begin) // item)
        if members and not (together and _are_alike(members[-1].task, member.task)):
            pieces.append(_build_piece(members, position, place))
            place, members = _align_up(pieces[-1].inputs_end), []
        if not members:
            position = begin - offset
        members.append(member)
    if members:
        pieces.append(_build_piece(members, position, place))
    return Block(offset, size, shard.header[offset : offset + size], tuple(pieces))


def _are_alike(task: TensorTask, other: TensorTask) -> bool:
    """Return whether both add one term to tensors of the same dtypes, without new rows."""
    return (
        task.fill is None
        and other.fill is None
        and task.whole is None
        and other.whole is None
        and len(task.terms) == len(other.terms) == 1
        and task.first.dtype == other.first.dtype
        and task.terms[0].dtype == other.terms[0].dtype
    )


def _build_piece(members: list[Member], position: int, place: int) -> Piece:
    task, start, _ = members[0]
    count = sum(member.elements for member in members)
    inputs = []
    for ref in (task.first, *task.terms):
        inputs.append(place)
        place = _align_up(place + count * ref.item_size)
    from_base = count
    if task.terms and task.fill is not None:  # new rows follow all old ones
        from_base = max(0, min(count, task.terms[0].elements - start))
    return Piece(tuple(members), count, position, tuple(inputs), from_base)


def _align_up(place: int) -> int:
    return -(-place // _ALIGN) * _ALIGN
