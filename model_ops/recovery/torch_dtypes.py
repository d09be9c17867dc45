"""The dtypes of `dtypes.ADDABLE` as torch knows them. With this module begins the part that needs torch."""

from __future__ import annotations

from typing import Any

import torch

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8}
# The largest finite value; a float32 beyond it may turn infinite when cast.
LARGEST = {name: torch.finfo(dtype).max for name, dtype in TORCH.items() if dtype.is_floating_point}
BITS = {"F32": torch.int32, "F16": torch.int16, "BF16": torch.int16}


def bytes_of(buffer: torch.Tensor) -> memoryview:
    """The memory of a one-dimensional uint8 tensor on the CPU, shared with it."""
    array: Any = buffer.numpy()
    return memoryview(array)
