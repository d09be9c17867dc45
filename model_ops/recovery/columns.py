"""How an embedding's columns are taken for the mean of its rows: in blocks whose width is a multiple of 32.

Such blocks have the bits of the whole mean. A block holds every row, so only an embedding of very many rows
makes it larger than it should be; `mean_memory` says how large, before anything is read.
"""

from __future__ import annotations

from model_ops.recovery.tensors import TensorRef

GROUP = 32
KEPT = 32 * 1024 * 1024  # bytes of columns as they are stored
CONVERTED = 16 * 1024 * 1024  # bytes of some of them as float32
READ = 4 * 1024 * 1024  # bytes of whole rows at a time


def kept_blocks(ref: TensorRef) -> list[tuple[int, int]]:
    """(first column, first one behind) of the blocks that are read."""
    rows, columns = ref.shape
    return _blocks(columns, KEPT // ref.item_size // rows)


def converted_blocks(block: tuple[int, int], rows: int) -> list[tuple[int, int]]:
    """The block cut into what is float32 at once."""
    begin, end = block
    return [(begin + start, begin + stop) for start, stop in _blocks(end - begin, CONVERTED // 4 // rows)]


def widest(blocks: list[tuple[int, int]]) -> int:
    """Columns of the widest block."""
    return max(stop - start for start, stop in blocks)


def mean_memory(ref: TensorRef) -> int:
    """Bytes that taking the mean holds at most, its own values included."""
    rows, columns = ref.shape
    stored, converted = (
        min(columns, max(GROUP, size // item // rows) + GROUP) * rows * item
        for size, item in ((KEPT, ref.item_size), (CONVERTED, 4))
    )
    return stored + converted * 3 // 2 + READ + columns * 4


def _blocks(columns: int, width: int) -> list[tuple[int, int]]:
    """A rest under 32 columns joins the last block, since alone it would be summed in another order."""
    width = max(GROUP, width // GROUP * GROUP)
    starts = [start for start in range(0, columns, width) if start == 0 or columns - start >= GROUP]
    return list(zip(starts, [*starts[1:], columns], strict=True))
