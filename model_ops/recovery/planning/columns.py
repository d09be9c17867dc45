"""Plan how to cut an embedding for the mean of its rows, and how much memory that takes.

Nothing is read for this. Rows are taken in chunks, and wide rows in panels of some of their columns. If
`row_sums` does not know the order in which torch adds rows, blocks of columns that hold every row are used
instead. Both stay within `MEAN_MEMORY`.
"""

from __future__ import annotations

from model_ops.recovery.formats.tensors import TensorRef

GROUP = 32  # block widths are multiples of this
STREAMS = 4  # in which the columns after the last full group are added
READ = 4 * 1024 * 1024  # bytes of rows read at once
CONVERTED = 1024 * 1024  # bytes of float32 added at once; they fit the processor's cache
MEAN_MEMORY = 40 * 1024 * 1024
_WIDEST = 4 * 1024 * 1024  # bytes of float32 in the smallest rows of a panel
_LEAST_STEP = 4  # as a power of two
_PANEL_GROUP = 64  # panel widths are multiples of this
_COLUMN_BLOCK = MEAN_MEMORY - READ - READ // 2  # bytes of float32 in a block that holds every row


def cascade_step(rows: int) -> int:
    """Return how many rows are added one after another before their sum is carried."""
    return 1 << max(_LEAST_STEP, (max(rows, 1) - 1).bit_length() // 4)


def panels(ref: TensorRef) -> list[tuple[int, int]]:
    """Return (first column, one past the last) of panels of similar width; most embeddings have just one."""
    rows, columns = ref.shape
    most = max(_PANEL_GROUP, _WIDEST // (4 * STREAMS * cascade_step(rows)) // _PANEL_GROUP * _PANEL_GROUP)
    width = -(-columns // -(-columns // most))
    return _cut_columns(columns, -(-width // _PANEL_GROUP) * _PANEL_GROUP)


def rows_at_once(rows: int, row_size: int, limit: int) -> int:
    """Return the rows of `row_size` bytes per chunk of about `limit` bytes, in whole steps of every stream."""
    unit = STREAMS * cascade_step(rows)
    return max(1, limit // (row_size * unit)) * unit


def column_blocks(ref: TensorRef) -> list[tuple[int, int]]:
    """Return (first column, one past the last) of blocks that hold every row.

    There are none if a block would be too large.

    Fewer than 32 remaining columns join the last block, since alone they would be summed in another order.
    """
    rows, columns = ref.shape
    most = min(_COLUMN_BLOCK // 4 // rows, READ // ref.item_size)
    if columns <= most:
        return [(0, columns)]
    width = (most - GROUP + 1) // GROUP * GROUP if columns % GROUP else most // GROUP * GROUP
    return _cut_columns(columns, width) if width >= GROUP else []


def mean_memory(ref: TensorRef) -> int:
    """Return the most bytes that computing the mean holds, including the values themselves."""
    rows, columns = ref.shape
    small = rows * columns * (ref.item_size + 8) + 64 * columns
    return min(MEAN_MEMORY, small) + 2 * 4 * columns


def _cut_columns(columns: int, width: int) -> list[tuple[int, int]]:
    starts = [start for start in range(0, columns, width) if start == 0 or columns - start >= GROUP]
    return list(zip(starts, [*starts[1:], columns], strict=True))
