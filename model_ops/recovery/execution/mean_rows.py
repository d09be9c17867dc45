"""Compute the mean of a base's embedding rows in bounded memory, bit for bit as `rows.float().mean(0)` does.

    file --rows, 4 MiB--> as stored --float32, 1 MiB--> added in torch's order (row_sums)

Each byte is read once. This always runs on the CPU, since a GPU adds in another order.
"""

from __future__ import annotations

import torch

from model_ops.recovery.errors import Failure
from model_ops.recovery.execution.row_sums import NARROWEST, RowSum, find_group
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.formats.torch_dtypes import TORCH, bytes_of, new_memory
from model_ops.recovery.planning.columns import (
    CONVERTED,
    MEAN_MEMORY,
    READ,
    column_blocks,
    panels,
    rows_at_once,
)
from model_ops.recovery.system.page_cache import KEPT_IN_CACHE


def mean_row(ref: TensorRef, reader: Reader, *, half_steps: bool) -> torch.Tensor:
    """Return the mean, shape [columns], float32.

    With `half_steps`, the values and the mean are rounded to float16. The embedding stays in the page cache
    unless it is very large, since it is read again when it is added.
    """
    rows, columns = ref.shape
    group = find_group(rows) if columns >= NARROWEST else None
    if group is None:
        result = mean_by_columns(ref, reader, half_steps=half_steps)
    else:
        parts = [_sum_panel(ref, reader, panel, group, half_steps) for panel in panels(ref)]
        result = torch.cat(parts).div_(rows)
    return result.half().float() if half_steps else result


def _sum_panel(
    ref: TensorRef, reader: Reader, panel: tuple[int, int], group: int, half_steps: bool
) -> torch.Tensor:
    """Return the sum of the rows' columns from `panel[0]` to `panel[1]`."""
    rows, width = ref.shape[0], panel[1] - panel[0]
    count = min(rows, rows_at_once(rows, width * ref.item_size, READ))
    part = min(count, rows_at_once(rows, width * 4, CONVERTED))
    stored = new_memory(count * width * ref.item_size)
    scratch = torch.empty(part, width)
    sums = RowSum(rows, width, group)
    for first in range(0, rows, count):
        chunk = _read_rows(
            ref, reader, panel, first, stored[: min(count, rows - first) * width * ref.item_size]
        )
        for values in chunk.split(part):
            block = scratch[: len(values)].copy_(values.half() if half_steps else values)
            sums.add(block.numpy())
    return torch.from_numpy(sums.total())


def _read_rows(
    ref: TensorRef, reader: Reader, panel: tuple[int, int], first: int, buffer: torch.Tensor
) -> torch.Tensor:
    """Fill `buffer` with rows from `first` on, whole or only the panel's columns; shape [rows, width]."""
    columns, width = ref.shape[1], panel[1] - panel[0]
    view, size = bytes_of(buffer), width * ref.item_size
    drop = ref.nbytes > KEPT_IN_CACHE
    place = ref.offset + (first * columns + panel[0]) * ref.item_size
    if width == columns:
        reader.read_into(ref.path, place, view, drop=drop)
    else:
        for start in range(0, len(view), size):
            reader.read_into(ref.path, place, view[start : start + size], drop=drop)
            place += columns * ref.item_size
    return buffer.view(TORCH[ref.dtype]).view(-1, width)


def mean_by_columns(ref: TensorRef, reader: Reader, *, half_steps: bool) -> torch.Tensor:
    """Return the mean as torch itself computes it, from blocks of columns that hold every row.

    This is for processors and torch builds whose order is not known. The embedding is read once per block.
    """
    rows, columns = ref.shape
    blocks = column_blocks(ref)
    if not blocks:
        raise Failure(
            f"The mean of the {rows} rows of {ref.name} does not fit into {MEAN_MEMORY} bytes with the PyTorch that is "
            "installed here, which adds rows in an order of its own; install PyTorch from pytorch.org and run the same "
            "command again."
        )
    memory = new_memory(rows * max(stop - start for start, stop in blocks) * 4).view(torch.float32)
    count = max(1, READ // (columns * ref.item_size))
    result = torch.empty(columns)
    for start, stop in blocks:
        block = memory[: rows * (stop - start)].view(rows, stop - start)
        _fill_block(ref, reader, (start, stop), block, count, half_steps)
        result[start:stop] = block.mean(0)
    return result


def _fill_block(
    ref: TensorRef,
    reader: Reader,
    columns: tuple[int, int],
    block: torch.Tensor,
    count: int,
    half_steps: bool,
) -> None:
    """Fill `block` with these columns of every row; rows larger than a chunk are read one by one."""
    row_size = ref.shape[1] * ref.item_size
    panel = columns if row_size > READ else (0, ref.shape[1])
    width = panel[1] - panel[0]
    buffer = new_memory(count * width * ref.item_size)
    for first in range(0, len(block), count):
        target = block[first : first + count]
        rows = _read_rows(ref, reader, panel, first, buffer[: len(target) * width * ref.item_size])
        values = rows[:, columns[0] - panel[0] : columns[1] - panel[0]]
        target.copy_(values.half() if half_steps else values)
