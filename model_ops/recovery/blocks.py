"""An output file cut into blocks, each block into pieces of the header and of tensors.

A block is a range of the *file*, so that all writes but the last are aligned; the CPU takes shorter ones than a
device. Elements never straddle two blocks: every offset is a multiple of the item size.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from model_ops.recovery.memory import BLOCK_SIZE
from model_ops.recovery.planned import Placed, ShardPlan
from model_ops.recovery.rules import TensorTask
from model_ops.recovery.tensors import TensorRef

_ALIGN = 64


@dataclass(frozen=True)
class Piece:
    """Elements `start` to `start + count` of a tensor, to be written at `position` of the block.

    `inputs` are the places in the slot's input buffer where the bytes of `first` and of each term go; of a
    term only its first `from_base` elements of this piece exist, the rest are new rows.
    """

    task: TensorTask
    start: int
    count: int
    position: int
    inputs: tuple[int, ...]
    from_base: int

    @property
    def inputs_end(self) -> int:
        """Where its inputs end."""
        last = (self.task.first, *self.task.terms)[-1]
        return self.inputs[-1] + self.count * last.item_size

    def reads(self) -> Iterator[tuple[TensorRef, int, int, int]]:
        """(tensor, position in its file, bytes, place in the input buffer) for each range to read."""
        counts = (self.count, *([self.from_base] * len(self.task.terms)))
        refs = (self.task.first, *self.task.terms)
        for ref, count, place in zip(refs, counts, self.inputs, strict=True):
            if count:
                yield ref, ref.offset + self.start * ref.item_size, count * ref.item_size, place


@dataclass(frozen=True)
class Block:
    """Bytes `offset` to `offset + size` of the file: header bytes first, then pieces of tensors."""

    offset: int
    size: int
    header: bytes
    pieces: tuple[Piece, ...]

    @cached_property
    def input_size(self) -> int:
        """Bytes of input buffer needed."""
        return self.pieces[-1].inputs_end if self.pieces else 0


def cut(shard: ShardPlan, item_size: int, block_size: int = BLOCK_SIZE) -> list[Block]:
    """All blocks of a shard in file order."""
    starts = [placed.offset for placed in shard.tensors]
    return [
        _block(shard, starts, item_size, offset, min(block_size, shard.size - offset))
        for offset in range(0, shard.size, block_size)
    ]


def _block(shard: ShardPlan, starts: list[int], item_size: int, offset: int, size: int) -> Block:
    pieces: list[Piece] = []
    place = 0
    first = max(0, bisect_right(starts, offset) - 1)
    for placed in shard.tensors[first : bisect_left(starts, offset + size)]:
        begin, end = max(placed.offset, offset), min(placed.offset + placed.nbytes, offset + size)
        if begin < end:
            piece = _piece(placed, begin, end, begin - offset, item_size, place)
            place = _aligned(piece.inputs_end)
            pieces.append(piece)
    return Block(offset, size, shard.header[offset : offset + size], tuple(pieces))


def _piece(placed: Placed, begin: int, end: int, position: int, item_size: int, place: int) -> Piece:
    task = placed.task
    start, count = (begin - placed.offset) // item_size, (end - begin) // item_size
    inputs = []
    for ref in (task.first, *task.terms):
        inputs.append(place)
        place = _aligned(place + count * ref.item_size)
    return Piece(task, start, count, position, tuple(inputs), _existing(task, start, count))


def _existing(task: TensorTask, start: int, count: int) -> int:
    """How many of the piece's elements the base has; new rows come after all old ones."""
    if not task.terms or task.fill is None:
        return count
    return max(0, min(count, task.terms[0].elements - start))


def _aligned(place: int) -> int:
    return -(-place // _ALIGN) * _ALIGN
