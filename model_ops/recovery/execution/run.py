"""Carry out a plan: make shards in parallel in the partial folder, add the other files, and rename it.

With `only`, some shards are made and the run stops there: several workers can make a model together, and a
run without `only` finishes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.base_check import check_base, converts
from model_ops.recovery.execution.checksums import check_open_entries
from model_ops.recovery.execution.device_pool import Devices, choose_devices
from model_ops.recovery.execution.finish import check_inputs, check_shard, write_rest
from model_ops.recovery.execution.parameter_sum import ParameterSum
from model_ops.recovery.execution.resources import check_device, check_torch, choose_jobs, import_torch
from model_ops.recovery.execution.result import Result, made_result, unchanged_result
from model_ops.recovery.planning.memory import DEFAULT_MEMORY, fitting_buffers
from model_ops.recovery.planning.plan import Plan, ShardPlan
from model_ops.recovery.planning.planner import check_disk
from model_ops.recovery.system.control import Control
from model_ops.recovery.system.page_cache import drop_file
from model_ops.recovery.workdir.existing_target import existing_result
from model_ops.recovery.workdir.partial_folder import Partial, has_finished, open_partial, partial_folder


class _Clock:
    """The seconds of a run, without those spent importing torch."""

    def __init__(self, started: float | None) -> None:
        self._started = time.monotonic() if started is None else started

    def import_torch(self) -> None:
        """Import torch, and do not count the time that takes."""
        self._started += import_torch()

    @property
    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self._started


@dataclass(frozen=True)
class _Work:
    """A plan and what this run should do; `whole` means the target itself, not only some shards."""

    plan: Plan
    target: Path
    shards: tuple[ShardPlan, ...]
    whole: bool
    device: str
    jobs: int | None
    memory: int
    non_finite: str
    run_id: str
    control: Control
    clock: _Clock
    devices: Devices


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
    """Make `target` from a plan, resuming what an earlier run left in `target.partial`.

    The target is complete or absent. A target that is already the complete result of the same plan is left
    alone. With `only`, these files are made in `target.partial` and nothing becomes visible; several
    processes may do this at once. Shards finished under the same `run_id` are not read again; all others are
    verified by their hash. Raises Refusal before writing, Failure after. `started` is `time.monotonic()` at
    the start; the seconds spent importing torch are not counted.
    """
    work = _Work(
        plan=plan,
        target=Path(os.path.abspath(target)),  # noqa: PTH100 - takes `..` out without following links
        shards=choose_shards(plan, only),
        whole=not only,
        device=device,
        jobs=jobs,
        memory=memory,
        non_finite=non_finite,
        run_id=run_id,
        control=control or Control(),
        clock=_Clock(started),
        devices=Devices(lambda: choose_devices(device)),
    )
    return _carry_out(work)


def _carry_out(work: _Work) -> Result:
    """Do the steps of a run in order."""
    above = Path(os.path.realpath(work.target.parent))
    for checkpoint in (work.plan.base, work.plan.first):
        if checkpoint.folder in (above, *above.parents):  # the target would change that folder
            raise Refusal(
                f"{work.target.name} lies inside {checkpoint.folder.name}, which is an input; choose a folder outside of it."
            )
    work.control.bytes_total = sum(shard.size for shard in work.shards)
    identity = work.plan.strict_identity
    there = _already_there(work)
    if there is not None:
        if partial_folder(work.target).exists():  # left by a run that was killed after its rename
            with suppress(Refusal), open_partial(work.target, identity, work.control, whole=True) as partial:
                partial.discard_if_alone()
        return there
    jobs = _choose_early(work)
    with open_partial(work.target, identity, work.control, whole=work.whole) as partial:
        try:
            there = _already_there(work)  # made by another process while this one waited
            if there is not None:
                partial.discard_if_alone()
                return there
            let_go = _prepare_folder(work, partial, jobs) if partial.alone else 0
            records, used = _make_shards(work, partial, jobs)
            parameter_sum = _finish_target(work, partial, records) if work.whole else None
        except Refusal:
            partial.discard_if_empty()  # leave no folder that was not there before
            raise
    work.control.tick(final=True)
    result = made_result(work.plan, records, work.control, used, parameter_sum, work.clock.seconds)
    return replace(result, let_go=let_go or None)


def _already_there(work: _Work) -> Result | None:
    """Return the result if the target is already complete."""
    manifest = existing_result(work.plan, work.target, work.non_finite)
    return None if manifest is None else unchanged_result(manifest, work.shards, work.clock.seconds)


def _choose_early(work: _Work) -> int:
    """Return how many shards to make at once, as far as known without a device.

    Refuse what this machine cannot do.
    """
    check_device(work.device)
    if work.device.startswith("cuda"):  # named, so it must exist
        work.clock.import_torch()
        work.devices.count()
    else:
        finished = has_finished(work.target, work.plan.strict_identity, work.shards)
        if not finished or (work.whole and work.plan.expected):  # torch has work to do
            check_torch()
    return choose_jobs(work.shards, work.plan.dtype, work.jobs, work.memory)


def _prepare_folder(work: _Work, partial: Partial, jobs: int) -> int:
    """Claim the folder while alone in it and do the last checks.

    Return how many files of another plan were deleted.
    """
    let_go = partial.adopt({shard.file for shard in work.plan.shards})
    check_disk(work.plan, work.target, already=partial.kept_bytes(work.plan.shards))
    if work.plan.base_tensors and not partial.is_checked():
        if converts(work.plan):
            work.clock.import_torch()
        check_base(work.plan, work.control, jobs)
    partial.note_checked()
    partial.share(work.control)
    return let_go


def _make_shards(work: _Work, partial: Partial, jobs: int) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the shards' records in order, and the devices used. Shards that are already finished are kept.

    If anything is left to make, torch is imported, and as many shards are made at once as the devices can
    handle.
    """
    if not all(map(partial.recorded, work.shards)):
        work.clock.import_torch()
        dtype, tasks = work.plan.dtype, [shard.tasks for shard in work.shards]
        jobs = choose_jobs(work.shards, dtype, work.jobs, work.memory, devices=work.devices.count())
        work.devices.buffers = fitting_buffers(tasks, dtype, work.memory, jobs)
    work.control.end_in_order()
    used: set[str] = set()

    def make(shard: ShardPlan) -> dict[str, Any]:
        work.control.check()
        with partial.shard_lock(shard, work.control):
            record = partial.finished(shard, work.control, work.run_id)
            if record is not None:
                work.control.advance(shard.size, shard.file)
            else:
                record = work.devices.make(work.plan, shard, partial.result, work.control)
                used.add(record["device"])
                check_inputs(work.plan)  # files of other inputs must not count as finished later
                partial.record(shard, record, work.run_id)
        check_shard(work.plan, shard, record, partial.result, work.non_finite)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        records = work.control.gather([pool.submit(make, shard) for shard in work.shards])
    check_inputs(work.plan)
    return records, used or {"none"}


def _finish_target(work: _Work, partial: Partial, records: list[dict[str, Any]]) -> ParameterSum | None:
    """Add the other files to the finished shards, and rename.

    Return the parameter sum if one was expected.
    """
    # One shard's read-ahead brings back pages that another has read and dropped. A run of only some shards
    # does not drop them, since its siblings may still be reading.
    for folder, files in (
        (work.plan.base.folder, work.plan.base_files),
        (work.plan.first.folder, work.plan.first_files),
    ):
        for file in files:
            drop_file(folder / file.name)
    partial.close_off(work.control)
    check_open_entries(work.plan, records, work.control)
    parameter_sum = write_rest(work.plan, records, partial.result, work.control)
    work.control.check()
    partial.publish(work.target)
    partial.discard()
    return parameter_sum


def choose_shards(plan: Plan, only: Sequence[str]) -> tuple[ShardPlan, ...]:
    """Return the shards with these file names, or all if none are named.

    Refuse a name that is not in the plan.
    """
    unknown = sorted(set(only) - {shard.file for shard in plan.shards})
    if unknown:
        raise Refusal(
            f"--only {unknown[0]!r} is not a weight file of this plan; plan --json lists its files."
        )
    return tuple(shard for shard in plan.shards if not only or shard.file in only)
