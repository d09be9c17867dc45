"""Choose where the arithmetic runs, and how many shards are made at once."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from importlib.util import find_spec

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.memory import fitting_jobs, least_memory
from model_ops.recovery.planning.plan import ShardPlan, human

MOST_JOBS = 4096


NO_TORCH = 'PyTorch is not installed here; run pip install "gatehouse-portal[torch]", then try again.'


def check_torch() -> None:
    """Refuse if torch is not installed, without importing it."""
    if find_spec("torch") is None:
        raise Refusal(NO_TORCH)


def import_torch() -> float:
    """Import torch and return the seconds it took. Planning and refusing do not need it."""
    began = time.monotonic()
    try:
        import torch
    except ImportError as error:
        raise Refusal(NO_TORCH) from error
    torch.set_num_threads(1)
    return time.monotonic() - began


def check_device(wanted: str) -> None:
    """Refuse a text that does not name a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", wanted):
        raise Refusal(f"The device {wanted!r} is not known; use auto, cpu or cuda[:N].")


def choose_jobs(
    shards: Sequence[ShardPlan], dtype: str, wanted: int | None, memory: int, *, devices: int = 1
) -> int:
    """Return the number of shards to make at once: at most one per core or device, as memory allows."""
    if wanted is not None and not 1 <= wanted <= MOST_JOBS:
        raise Refusal(f"--jobs {wanted} makes no sense; give 1 to {MOST_JOBS}.")
    tasks = [shard.tasks for shard in shards]
    needed = least_memory(tasks, dtype)
    if memory < needed:
        raise Refusal(
            f"--memory {human(memory)} is too little: one shard in work needs about {human(needed)}; give at least "
            f"{-(-needed // 10**6)}MB."
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(wanted or max(cores, devices), fitting_jobs(tasks, dtype, memory))
