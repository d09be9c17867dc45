"""Choose the devices of a run, hand them out in turn, and handle a device that runs out of memory.

torch is imported when the first device is needed.
"""

from __future__ import annotations

import errno
import gc
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.resources import import_torch
from model_ops.recovery.planning.memory import PLAIN, Buffers
from model_ops.recovery.planning.plan import Plan, ShardPlan
from model_ops.recovery.system.control import Control

if TYPE_CHECKING:
    from model_ops.recovery.execution.device import Device

OUT_OF_MEMORY = "out of GPU memory"


def choose_devices(wanted: str) -> Sequence[Device]:
    """Return the devices to use.

    `cpu`; `auto`: every CUDA device that works, else the CPU; `cuda`: every CUDA device that works; `cuda:N`:
    only that one. Raises Refusal if none of the named devices can be used.
    """
    import_torch()
    import torch

    from model_ops.recovery.execution.device import Cpu, Cuda

    if wanted == "cpu":
        return [Cpu()]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    numbers = [int(wanted.removeprefix("cuda:"))] if wanted.startswith("cuda:") else range(count)
    found: dict[int, str] = {}  # why each device cannot be used, "" if it can
    for number in numbers:
        if number >= count:
            found[number] = f"torch finds {count} CUDA device(s) here, numbered from 0"
            continue
        try:
            torch.zeros(1, device=f"cuda:{number}").add_(1).item()
            found[number] = ""
        except RuntimeError as error:  # lack of memory is handled when it occurs
            found[number] = "" if is_out_of_memory(error) else _short_reason(error)
    working = [Cuda(number) for number, trouble in found.items() if not trouble]
    if working or wanted == "auto":
        return working or [Cpu()]
    trouble = next(iter(found.values()), "torch finds no CUDA device here")
    raise Refusal(f"The device {wanted} cannot be used: {trouble}; choose another one, or --device cpu.")


class Devices:
    """The devices of a run, chosen when the first shard needs one.

    A shard in progress holds one of them; several shards may share one.
    """

    def __init__(self, choose: Callable[[], Sequence[Device]]) -> None:
        self._choose, self.buffers = choose, PLAIN
        self._devices: Sequence[Device] = ()
        self._in_work: list[int] = []
        self._lock = threading.Lock()

    def count(self) -> int:
        """Return the number of devices."""
        with self._lock:
            if not self._devices:
                self._devices = self._choose()
                self._in_work = [0] * len(self._devices)
            return len(self._devices)

    def make(self, plan: Plan, shard: ShardPlan, folder: Path, control: Control) -> dict[str, Any]:
        """Run `run_shard` on the least busy device; the record also names the `device`.

        Ties go to the device whose turn it is, even if several processes make some of the shards each.
        """
        number, count = plan.shards.index(shard), self.count()
        with self._lock:
            in_turn = [(number + step) % count for step in range(count)]
            index = min(in_turn, key=self._in_work.__getitem__)
            self._in_work[index] += 1
        device = self._devices[index]
        try:
            return make_shard(plan, shard, folder, device=device, buffers=self.buffers, control=control)
        finally:
            with self._lock:
                self._in_work[index] -= 1


def make_shard(
    plan: Plan, shard: ShardPlan, folder: Path, *, device: Device, buffers: Buffers, control: Control
) -> dict[str, Any]:
    """Run `run_shard` on the device; if its memory is short, use smaller blocks, and finally the CPU."""
    from model_ops.recovery.execution.device import Cpu
    from model_ops.recovery.execution.pipeline import run_shard

    ways = {(device, buffers if device.staged else PLAIN): device.name}
    if device.staged:
        ways.setdefault((device, PLAIN), f"{device.name} in smaller blocks ({OUT_OF_MEMORY})")
        ways[Cpu(), PLAIN] = f"{device.name} then cpu ({OUT_OF_MEMORY})"
    for (where, size), description in ways.items():
        try:
            record = run_shard(plan, shard, folder, device=where, buffers=size, control=control)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
        except RuntimeError as error:
            if not is_out_of_memory(error):
                if not where.staged:
                    raise
                raise Failure(
                    f"The device {where.name} failed ({_short_reason(error)}); run the same command again, or with "
                    "--device cpu.",
                    lacks="device",
                ) from error
        else:
            return {**record, "device": description}
        gc.collect()  # the caught error keeps the buffers alive
    raise MemoryError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch or the CUDA driver reports a lack of memory, on the device or the host."""
    import torch

    reason = _short_reason(error)
    complaints = ("out of memory", "can't allocate", "not enough memory", "bad_alloc")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in reason for words in complaints)


def _short_reason(error: RuntimeError) -> str:
    """Return the error's message without the advice to programmers that follows it."""
    return str(error).split("\n", 1)[0].rstrip(".")
