"""The dtypes of `dtypes.ADDABLE` and `dtypes.WHOLE` as torch knows them, and memory.

Modules that import this one need torch.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import torch

TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
}  # fmt: skip
# The largest finite value; a float32 beyond it may become infinite when cast.
LARGEST = {name: torch.finfo(dtype).max for name, dtype in TORCH.items() if dtype.is_floating_point}
BITS = {"F64": torch.int64, "F32": torch.int32, "F16": torch.int16, "BF16": torch.int16}
_HUGE_PAGE = 2 * 1024 * 1024


def bytes_of(buffer: torch.Tensor) -> memoryview:
    """Return the memory of a one-dimensional uint8 CPU tensor, shared with it."""
    array: Any = buffer.numpy()
    return memoryview(array)


def new_memory(size: int) -> torch.Tensor:
    """Return `size` bytes of page-aligned memory in a separate mapping.

    The system gets them back as soon as they are freed. The heap keeps much of what it once held, so the peak
    would depend on the number of files. Huge pages are requested if the system has them, which saves a tenth
    of the processor time.
    """
    pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.uint8)[:size]
