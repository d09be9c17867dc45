"""Carry out a plan: shards in parallel into the partial folder, then the rest beside them and the rename.

With `only` some shards are made and the run stops there: several workers make a model together, and a run without
`only` finishes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_ops.recovery.base_check import check_base, converts
from model_ops.recovery.choices import check_device, choose_jobs, import_torch
from model_ops.recovery.control import Control
from model_ops.recovery.devices import Devices, choose_devices
from model_ops.recovery.errors import Refusal
from model_ops.recovery.existing import existing_result
from model_ops.recovery.finish import check_inputs, check_shard, write_rest
from model_ops.recovery.memory import DEFAULT_MEMORY, fitting_buffers
from model_ops.recovery.partial import Partial, open_partial, partial_folder
from model_ops.recovery.plan import check_disk
from model_ops.recovery.planned import Plan, ShardPlan
from model_ops.recovery.result import Result, made_result, unchanged_result


class _Clock:
    """The seconds of a run but for those in which torch was imported."""

    def __init__(self, started: float | None) -> None:
        self._started = time.monotonic() if started is None else started

    def import_torch(self) -> None:
        """Planning and refusing do without."""
        self._started += import_torch()

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.monotonic() - self._started


def execute(
    plan: Plan,
    target: Path | str,
    *,
    device: str = "auto",
    jobs: int | None = None,
    memory: int = DEFAULT_MEMORY,
    non_finite: str = "refuse",
    only: Sequence[str] = (),
    run_id: str = "",
    control: Control | None = None,
    started: float | None = None,
) -> Result:
    """Make `target` out of a plan, resuming what an earlier run left in `target.partial`.

    The target is complete or not there. A target that is already the complete result of the same plan is left
    alone. With `only` these files are made into `target.partial` and nothing becomes visible; several processes may
    do so at once. Shards that were finished under the same `run_id` are not read again, all others are verified by
    their hash. Raises Refusal before writing, Failure after. `started` is `time.monotonic()` of the beginning; the
    seconds that importing torch takes are not counted.
    """
    clock = _Clock(started)
    control = control or Control()
    shards = choose_shards(plan, only)
    control.bytes_total = sum(shard.size for shard in shards)
    target = Path(os.path.abspath(target))  # noqa: PTH100 - takes `..` out without following links
    manifest = existing_result(plan, target, non_finite)
    if manifest is not None:
        _clear_leftovers(plan, target, control)
        return unchanged_result(manifest, shards, clock.seconds)
    check_device(device)
    devices = Devices(lambda: choose_devices(device))
    if device.startswith("cuda"):  # named, so it must be there
        clock.import_torch()
        devices.count()
    count = choose_jobs(shards, plan.dtype, jobs, memory)
    let_go = 0
    with open_partial(target, plan.strict_identity, control, whole=not only) as partial:
        manifest = existing_result(plan, target, non_finite)  # of somebody whom we waited for
        if manifest is not None:
            if partial.alone:
                partial.discard()
            return unchanged_result(manifest, shards, clock.seconds)
        if partial.alone:
            let_go = partial.adopt({shard.file for shard in plan.shards})
            _check_before_writing(plan, target, partial, count, clock, control)
            partial.share(control)
        if not all(map(partial.recorded, shards)):
            clock.import_torch()
            count = choose_jobs(shards, plan.dtype, jobs, memory, devices=devices.count())
            devices.buffers = fitting_buffers([shard.tasks for shard in shards], plan.dtype, memory, count)
        control.end_in_order()
        records, used = _make_shards(plan, shards, partial, devices, count, run_id, non_finite, control)
        check_inputs(plan)
        parameter_sum = None
        if not only:
            partial.close_off(control)
            parameter_sum = write_rest(plan, records, partial.result, control)
            control.check()
            partial.publish(target)
            partial.discard()
    control.tick(final=True)
    result = made_result(plan, records, control, used, parameter_sum, clock.seconds)
    return replace(result, let_go=let_go or None)


def choose_shards(plan: Plan, only: Sequence[str]) -> tuple[ShardPlan, ...]:
    """The shards with these file names, all of them where none are named; refuses a name that the plan has not."""
    unknown = sorted(set(only) - {shard.file for shard in plan.shards})
    if unknown:
        raise Refusal(
            f"--only {unknown[0]!r} is not a weight file of this plan; plan --json lists its files."
        )
    return tuple(shard for shard in plan.shards if not only or shard.file in only)


def _clear_leftovers(plan: Plan, target: Path, control: Control) -> None:
    """Of a run that was killed after its rename."""
    if not partial_folder(target).exists():
        return
    with suppress(Refusal), open_partial(target, plan.strict_identity, control, whole=True) as partial:
        if partial.alone:
            partial.discard()


def _check_before_writing(
    plan: Plan, target: Path, partial: Partial, jobs: int, clock: _Clock, control: Control
) -> None:
    """The last refusals; after one of them no folder is left that was not there before."""
    try:
        check_disk(plan, target, already=partial.kept_bytes(plan.shards))
        if plan.base_tensors and not partial.is_checked():
            if converts(plan):
                clock.import_torch()
            check_base(plan, control, jobs)
        partial.note_checked()
    except Refusal:
        if not any(partial.result.iterdir()):
            partial.discard()
        raise


def _make_shards(
    plan: Plan,
    shards: Sequence[ShardPlan],
    partial: Partial,
    devices: Devices,
    jobs: int,
    run_id: str,
    non_finite: str,
    control: Control,
) -> tuple[list[dict[str, Any]], set[str]]:
    """Their records in order, and the devices that were used; what is finished already is kept."""
    used: set[str] = set()

    def checked(shard: ShardPlan) -> dict[str, Any]:
        control.check()
        record = made(shard)
        check_shard(plan, shard, record, partial.result, non_finite)
        return record

    def made(shard: ShardPlan) -> dict[str, Any]:
        with partial.shard_lock(shard, control):
            record = partial.finished(shard, control, run_id)
            if record is not None:
                control.advance(shard.size, shard.file)
                return record
            record = devices.make(plan, shard, partial.result, control)
            used.add(record["device"])
            check_inputs(plan)  # what was made of others must not be taken for finished later
            partial.record(shard, record, run_id)
            return record

    with ThreadPoolExecutor(jobs) as pool:
        return control.gather([pool.submit(checked, shard) for shard in shards]), used or {"none"}
