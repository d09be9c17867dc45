"""The mean over a base's embedding rows, bit for bit as `rows.float().mean(0)` gives it, in bounded memory.

A sum in another order gives other bits, so never a running sum over rows: the tensor is taken in blocks of
columns, whose width is a multiple of 32, and each goes through torch's own reduction. Always on the CPU.

    file --whole rows, 4 MiB--> columns as stored, 32 MiB --float32, 16 MiB--> mean(0)

Columns are kept as they are stored, so that the file is read as few times as they fit into 32 MiB.
"""

from __future__ import annotations

import torch

from model_ops.recovery.memory import MEAN_COLUMNS, MEAN_READ, MEAN_SCRATCH
from model_ops.recovery.reading import Reader
from model_ops.recovery.tensors import TensorRef
from model_ops.recovery.torch_dtypes import TORCH, bytes_of, new_memory

_COLUMNS = 32


def mean_row(ref: TensorRef, reader: Reader, *, half_steps: bool) -> torch.Tensor:
    """Shape [columns], float32. With `half_steps` values are rounded to float16 first and so is the mean."""
    rows, columns = ref.shape
    blocks = _column_blocks(columns, MEAN_COLUMNS // ref.item_size // rows)
    stored = new_memory(rows * _widest(blocks) * ref.item_size).view(TORCH[ref.dtype])
    scratch = new_memory(rows * max(_widest(_parts(block, rows)) for block in blocks) * 4).view(torch.float32)
    result = torch.empty(columns)
    for start, stop in blocks:
        block = stored[: rows * (stop - start)].view(rows, stop - start)
        _read_columns(ref, reader, start, block)
        for first, last in _parts((start, stop), rows):
            values = scratch[: rows * (last - first)].view(rows, last - first)
            part = block[:, first - start : last - start]
            values.copy_(part.half() if half_steps else part)
            result[first:last] = values.mean(0)
    return result.half().float() if half_steps else result


def _column_blocks(columns: int, width: int) -> list[tuple[int, int]]:
    """Blocks of `width`, a multiple of 32; a rest under 32 columns joins the last, for alone it is summed otherwise."""
    width = max(_COLUMNS, width // _COLUMNS * _COLUMNS)
    starts = [start for start in range(0, columns, width) if start == 0 or columns - start >= _COLUMNS]
    return list(zip(starts, [*starts[1:], columns], strict=True))


def _widest(blocks: list[tuple[int, int]]) -> int:
    return max(stop - start for start, stop in blocks)


def _parts(block: tuple[int, int], rows: int) -> list[tuple[int, int]]:
    """The block cut into what fits into the scratch as float32."""
    begin, end = block
    parts = _column_blocks(end - begin, MEAN_SCRATCH // 4 // rows)
    return [(begin + start, begin + stop) for start, stop in parts]


def _read_columns(ref: TensorRef, reader: Reader, start: int, block: torch.Tensor) -> None:
    """Fill `block` with the columns from `start` on, reading whole rows in chunks."""
    columns, (rows, width) = ref.shape[1], block.shape
    row_size = columns * ref.item_size
    step = max(1, min(rows, MEAN_READ // row_size))
    buffer = new_memory(step * row_size)
    view = bytes_of(buffer)
    for row in range(0, rows, step):
        count = min(step, rows - row)
        size = count * row_size
        reader.read_into(ref.path, ref.offset + row * row_size, view[:size], drop=False)
        values = buffer[:size].view(TORCH[ref.dtype]).view(count, columns)
        block[row : row + count] = values[:, start : start + width]
