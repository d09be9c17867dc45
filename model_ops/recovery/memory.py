"""What a run takes in memory, from the plan alone. None of it grows with the model."""

from __future__ import annotations

from collections.abc import Iterable

from model_ops.recovery.dtypes import ITEM_SIZE
from model_ops.recovery.rules import TensorTask

INTERPRETER = 270 * 1024 * 1024  # Python with torch imported, as measured
SLOTS = 3
MEAN_SCRATCH = 32 * 1024 * 1024
MEAN_READ = 8 * 1024 * 1024
BLOCK_SIZE = 8 * 1024 * 1024


def job_memory(tasks: Iterable[TensorTask], dtype: str) -> int:
    """Bytes of buffers for one shard in work."""
    inputs, fills = 0, False
    for task in tasks:
        inputs = max(inputs, sum(ref.item_size for ref in (task.first, *task.terms)))
        fills = fills or task.fill == "mean"
    ratio = inputs / ITEM_SIZE[dtype]
    return int(SLOTS * BLOCK_SIZE * (1 + ratio)) + (MEAN_SCRATCH + MEAN_READ if fills else 0)


def peak_memory(tasks: Iterable[TensorTask], dtype: str, jobs: int) -> int:
    """Bytes of the whole process at its peak."""
    return INTERPRETER + jobs * job_memory(tasks, dtype)
