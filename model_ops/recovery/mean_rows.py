"""The mean over a base's embedding rows, bit for bit as `rows.float().mean(0)` gives it, in bounded memory.

A sum in another order gives other bits, so never a running sum over rows: each block of columns goes through
torch's own reduction. Always on the CPU.

    file --whole rows, 4 MiB--> columns as stored, 32 MiB --float32, 16 MiB--> mean(0)

Columns are kept as they are stored, so that the file is read as few times as they fit into 32 MiB.
"""

from __future__ import annotations

import torch

from model_ops.recovery.columns import READ, converted_blocks, kept_blocks, widest
from model_ops.recovery.reading import Reader
from model_ops.recovery.tensors import TensorRef
from model_ops.recovery.torch_dtypes import TORCH, bytes_of, new_memory


def mean_row(ref: TensorRef, reader: Reader, *, half_steps: bool) -> torch.Tensor:
    """Shape [columns], float32. With `half_steps` values are rounded to float16 first and so is the mean."""
    rows, columns = ref.shape
    blocks = kept_blocks(ref)
    stored = new_memory(rows * widest(blocks) * ref.item_size).view(TORCH[ref.dtype])
    most = max(widest(converted_blocks(block, rows)) for block in blocks)
    scratch = new_memory(rows * most * 4).view(torch.float32)
    result = torch.empty(columns)
    for start, stop in blocks:
        block = stored[: rows * (stop - start)].view(rows, stop - start)
        _read_columns(ref, reader, start, block)
        for first, last in converted_blocks((start, stop), rows):
            values = scratch[: rows * (last - first)].view(rows, last - first)
            part = block[:, first - start : last - start]
            values.copy_(part.half() if half_steps else part)
            result[first:last] = values.mean(0)
    return result.half().float() if half_steps else result


def _read_columns(ref: TensorRef, reader: Reader, start: int, block: torch.Tensor) -> None:
    """Fill `block` with the columns from `start` on: out of whole rows in chunks, or row by row where they are long."""
    columns, (rows, width) = ref.shape[1], block.shape
    row_size = columns * ref.item_size
    if row_size > READ:
        for row in range(rows):
            place = ref.offset + row * row_size + start * ref.item_size
            reader.read_into(ref.path, place, bytes_of(block[row].view(torch.uint8)), drop=False)
        return
    step = min(rows, READ // row_size)
    buffer = new_memory(step * row_size)
    view = bytes_of(buffer)
    for row in range(0, rows, step):
        count = min(step, rows - row)
        size = count * row_size
        reader.read_into(ref.path, ref.offset + row * row_size, view[:size], drop=False)
        values = buffer[:size].view(TORCH[ref.dtype]).view(count, columns)
        block[row : row + count] = values[:, start : start + width]
