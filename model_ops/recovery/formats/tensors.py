"""Where one tensor lies: a range of bytes in a file, with its dtype and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from model_ops.recovery.formats.dtypes import ITEM_SIZE


class StoredEntry(NamedTuple):
    """The entry of a zip file that holds a tensor's bytes, perhaps with others, and the CRC-32 stored with it."""

    offset: int
    nbytes: int
    crc32: int


@dataclass(frozen=True)
class TensorRef:
    """`nbytes` bytes at `offset` of `path`, row-major, little-endian; `shape` in elements.

    `packed`: the file is compressed with gzip in so many bytes; `nbytes` and `shape` are what it decodes to.
    `entry` is known only where the file stores a checksum.
    """

    name: str
    path: str
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    packed: int | None = None
    entry: StoredEntry | None = field(default=None, compare=False)

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
