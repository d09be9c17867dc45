"""Where one tensor is stored: a range of bytes in a file, with its dtype and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from model_ops.recovery.formats.dtypes import ITEM_SIZE


class StoredEntry(NamedTuple):
    """The zip entry that holds a tensor's bytes, perhaps with others, and the CRC-32 stored with it."""

    offset: int
    nbytes: int
    crc32: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor: `nbytes` bytes at `offset` of `path`, row-major, little-endian; `shape` in elements.

    `packed` is the file's size if it is compressed with gzip; then `nbytes` and `shape` are those of the
    decoded bytes. `entry` is known only where the file stores a checksum.
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
        """Return the number of bytes to read from the file."""
        return self.nbytes if self.packed is None else self.packed

    @property
    def item_size(self) -> int:
        """Return the bytes per value."""
        return ITEM_SIZE[self.dtype]

    @property
    def elements(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """Return a description for messages: `model.norm.weight with shape [64]`."""
        return f"{self.name} with shape {list(self.shape)}"
