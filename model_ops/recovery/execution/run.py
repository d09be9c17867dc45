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
    """The seconds of a run but for those in which torch was imported."""

    def __init__(self, started: float | None) -> None:
        self._started = time.monotonic() if started is None else started

    def import_torch(self) -> None:
        """Import torch, and leave the time that takes out of the run's seconds."""
        self._started += import_torch()

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.monotonic() - self._started


@dataclass(frozen=True)
class _Work:
    """A plan, and what is asked of this run; `whole`: the target itself, not only some shards."""

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
    """Make `target` out of a plan, resuming what an earlier run left in `target.partial`.

    The target is complete or not there. A target that is already the complete result of the same plan is left
    alone. With `only` these files are made into `target.partial` and nothing becomes visible; several processes may
    do so at once. Shards that were finished under the same `run_id` are not read again, all others are verified by
    their hash. Raises Refusal before writing, Failure after. `started` is `time.monotonic()` of the beginning; the
    seconds that importing torch takes are not counted.
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
    """The steps of a run, in their order."""
    above = Path(os.path.realpath(work.target.parent))
    for checkpoint in (work.plan.base, work.plan.first):
        if checkpoint.folder in (above, *above.parents):  # the target would change what that folder holds
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
            there = _already_there(work)  # by someone whom we waited for
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
    """Of a target that is the complete result already."""
    manifest = existing_result(work.plan, work.target, work.non_finite)
    return None if manifest is None else unchanged_result(manifest, work.shards, work.clock.seconds)


def _choose_early(work: _Work) -> int:
    """Shards to work on at once, as far as it is known without a device; refuses what cannot be done here."""
    check_device(work.device)
    if work.device.startswith("cuda"):  # named, so it must be there
        work.clock.import_torch()
        work.devices.count()
    else:
        finished = has_finished(work.target, work.plan.strict_identity, work.shards)
        if not finished or (work.whole and work.plan.expected):  # torch has something to do
            check_torch()
    return choose_jobs(work.shards, work.plan.dtype, work.jobs, work.memory)


def _prepare_folder(work: _Work, partial: Partial, jobs: int) -> int:
    """Alone in the folder: make it ours and do the last checks; returns how many files of another plan were let go."""
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
    """Their records in order, and the devices that were used; a shard that is finished already is kept.

    If something is to be made, torch is imported, and as many shards are made at once as the devices there can do.
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
                check_inputs(work.plan)  # what was made of others must not be taken for finished later
                partial.record(shard, record, work.run_id)
        check_shard(work.plan, shard, record, partial.result, work.non_finite)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        records = work.control.gather([pool.submit(make, shard) for shard in work.shards])
    check_inputs(work.plan)
    return records, used or {"none"}


def _finish_target(work: _Work, partial: Partial, records: list[dict[str, Any]]) -> ParameterSum | None:
    """All is made: the rest beside it, and the rename; returns the sum of the parameters if one was expected."""
    # One shard's read-ahead brings back what another has read and dropped. A run of some shards alone does not drop
    # it: its siblings may still read.
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
    """The shards with these file names, all of them where none are named; refuses a name that the plan has not."""
    unknown = sorted(set(only) - {shard.file for shard in plan.shards})
    if unknown:
        raise Refusal(
            f"--only {unknown[0]!r} is not a weight file of this plan; plan --json lists its files."
        )
    return tuple(shard for shard in plan.shards if not only or shard.file in only)
