"""Compare the bytes of two tensors, as transformers does for tied names that are stored separately."""

from __future__ import annotations

import os
from pathlib import Path

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import open_regular
from model_ops.recovery.formats.tensors import TensorRef

_CHUNK = 1024 * 1024


def hold_the_same(one: TensorRef, other: TensorRef) -> bool:
    """Return whether dtype, shape and every byte are equal. Reading stops at the first difference."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if (one.path, one.offset) == (other.path, other.offset):
        return True
    try:
        with open_regular(Path(one.path)) as mine, open_regular(Path(other.path)) as theirs:
            for start in range(0, one.nbytes, _CHUNK):
                size = min(_CHUNK, one.nbytes - start)
                part = os.pread(mine.fileno(), size, one.offset + start)
                if part != os.pread(theirs.fileno(), size, other.offset + start):
                    return False
    except OSError as error:
        raise Refusal(f"{one.name} cannot be read: {error.strerror}.") from error
    return True
