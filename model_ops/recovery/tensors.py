"""Where one tensor lies: a range of bytes in a file, with its dtype and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_ops.recovery.dtypes import ITEM_SIZE


@dataclass(frozen=True)
class TensorRef:
    """`nbytes` bytes at `offset` of `path`, row-major, little-endian; `shape` in elements.

    `packed`: the file is compressed with gzip in so many bytes; `nbytes` and `shape` are what it decodes to.
    """

    name: str
    path: str
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    packed: int | None = None

    @property
    def bytes_to_read(self) -> int:
        """Bytes in the file."""
        return self.nbytes if self.packed is None else self.packed

    @property
    def item_size(self) -> int:
        """Bytes of one value."""
        return ITEM_SIZE[self.dtype]

    @property
    def elements(self) -> int:
        """How many values there are."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """For messages: `model.norm.weight with shape [64]`."""
        return f"{self.name} with shape {list(self.shape)}"
