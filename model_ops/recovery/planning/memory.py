"""Compute the memory of a run from the plan alone.

It grows neither with the model nor with its largest tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from model_ops.recovery.formats.dtypes import ITEM_SIZE
from model_ops.recovery.planning.columns import mean_memory
from model_ops.recovery.planning.rules import TensorTask

INTERPRETER = 270 * 1024 * 1024  # Python with torch imported, as measured
DEFAULT_MEMORY = 700 * 10**6
BLOCK_SIZE = 8 * 1024 * 1024


@dataclass(frozen=True)
class Buffers:
    """The buffers of one shard: the bytes per block, and how many blocks are in progress at once."""

    block_size: int = BLOCK_SIZE
    slots: int = 3


PLAIN = Buffers()
# For a device reached by copies: longer blocks, and one more in progress.
LARGE = (Buffers(4 * BLOCK_SIZE, 4), Buffers(4 * BLOCK_SIZE, 3), Buffers(2 * BLOCK_SIZE, 3))


def job_memory(tasks: Iterable[TensorTask], dtype: str, buffers: Buffers = PLAIN) -> int:
    """Return the bytes of buffers for one shard in progress."""
    mean, kinds = 0, set()
    for task in tasks:
        kinds.add((task.whole or dtype, task.first.dtype, *[ref.dtype for ref in task.terms]))
        if task.fill == "mean":
            mean = max(mean, sum(mean_memory(ref) for ref in set(task.terms)))
    ratio = max(
        (sum(ITEM_SIZE[kind] for kind in inputs) / ITEM_SIZE[out] for out, *inputs in kinds), default=0
    )
    return int(buffers.slots * buffers.block_size * (1 + ratio)) + mean


def least_memory(shards: Sequence[Iterable[TensorTask]], dtype: str) -> int:
    """Return the bytes of the whole process with one shard in progress, whichever it is."""
    return INTERPRETER + max(job_memory(tasks, dtype) for tasks in shards)


def fitting_jobs(shards: Sequence[Iterable[TensorTask]], dtype: str, memory: int) -> int:
    """Return how many shards can be in progress at once within `memory` bytes; at least one."""
    each = max(job_memory(tasks, dtype) for tasks in shards)
    return max(1, min(len(shards), (memory - INTERPRETER) // each))


def fitting_buffers(shards: Sequence[Iterable[TensorTask]], dtype: str, memory: int, jobs: int) -> Buffers:
    """Return the largest buffers of which `jobs` fit into a device's `memory`; CUDA itself needs more."""
    for buffers in LARGE:
        if INTERPRETER + jobs * max(job_memory(tasks, dtype, buffers) for tasks in shards) <= memory:
            return buffers
    return PLAIN


def peak_memory(shards: Sequence[Iterable[TensorTask]], dtype: str, memory: int = DEFAULT_MEMORY) -> int:
    """Return the bytes of the whole process at its peak, no matter how many cores there are."""
    each = max(job_memory(tasks, dtype) for tasks in shards)
    return INTERPRETER + fitting_jobs(shards, dtype, memory) * each
