"""Carry out a plan: shards in parallel into the partial folder, then the small files, the manifest, the rename."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.base_check import check_base
from model_ops.recovery.config import with_dtype
from model_ops.recovery.control import Control
from model_ops.recovery.dtypes import LONG_NAMES
from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.expected_sum import check_parameter_sum
from model_ops.recovery.folder import inner_file
from model_ops.recovery.identity import check_unchanged
from model_ops.recovery.manifest import build_manifest, read_manifest
from model_ops.recovery.memory import DEFAULT_MEMORY, fitting_jobs
from model_ops.recovery.output import write_small
from model_ops.recovery.partial import Partial, open_partial, partial_folder
from model_ops.recovery.plan import check_disk
from model_ops.recovery.planned import INDEX, Plan, ShardPlan
from model_ops.recovery.safetensors_format import read_safetensors
from model_ops.recovery.torch_zip import read_torch_zip

NON_FINITE = ("refuse", "report")


@dataclass(frozen=True)
class Result:
    """What a run did. `values` and `not_restored` only of make_diff: the check of its own round trip;
    `parameter_sum` only where one was expected.
    """

    seconds: float
    bytes_read: int
    bytes_written: int
    peak_rss_bytes: int
    device: str
    shards: tuple[dict[str, Any], ...]
    non_finite: int
    values: int | None = None
    not_restored: int | None = None
    parameter_sum: float | None = None
    already_there: bool = False

    def summary(self) -> str:
        """One sentence for a person."""
        if self.already_there:
            done = "Nothing to do: the folder is already the complete result of these inputs"
        else:
            size = sum(shard["bytes"] for shard in self.shards)
            done = f"{len(self.shards)} weight file(s), {size} bytes, made in {self.seconds:.1f} s on {self.device}"
        if self.not_restored is not None:
            done += f"; {self.not_restored} of {self.values} values would not come back from this diff"
        return done + "."

    def to_json(self) -> dict[str, Any]:
        """The last line of the command's standard output."""
        shown = {name: value for name, value in vars(self).items() if value is not None}
        return {**shown, "shards": list(self.shards)}


def execute(
    plan: Plan,
    target: Path | str,
    *,
    device: str = "auto",
    jobs: int | None = None,
    memory: int = DEFAULT_MEMORY,
    non_finite: str = "refuse",
    control: Control | None = None,
    started: float | None = None,
) -> Result:
    """Make `target` out of a plan, resuming what an earlier run left in `target.partial`.

    The target is complete or not there. A target that is already the complete result of the same plan is left
    alone. Raises Refusal before writing, Failure after. `started` is `time.monotonic()` of the beginning; the
    seconds that importing torch takes are not counted.
    """
    started = time.monotonic() if started is None else started
    control = control or Control()
    control.bytes_total = plan.bytes_of_weights
    target = Path(os.path.abspath(target))  # noqa: PTH100 - takes `..` out without following links
    manifest = _existing_result(plan, target, non_finite)
    if manifest is not None:
        return _unchanged_result(plan, manifest, target, started)
    check_device(device)
    count = choose_jobs(plan, jobs, memory)
    with open_partial(target) as partial:
        partial.adopt(plan.strict_identity)
        _check_before_writing(plan, target, partial, count, control)
        started += _import_torch()
        records, devices = _run_shards(plan, partial, choose_device(device), count, control)
        _check_finite(records, non_finite)
        parameter_sum = check_parameter_sum(plan, records, control)
        _check_restored(plan, partial.result)
        check_unchanged(plan.base.folder, plan.base_files)
        check_unchanged(plan.first.folder, plan.first_files)
        lines = [*records, *_small_files(plan, partial.result)]
        write_small(partial.result / MANIFEST, build_manifest(_facts(plan, records, lines, parameter_sum)))
        control.check()
        partial.publish(target)
        partial.discard()
    control.tick(final=True)
    return _result(plan, records, control, devices, parameter_sum, time.monotonic() - started)


def _check_before_writing(plan: Plan, target: Path, partial: Partial, jobs: int, control: Control) -> None:
    """The last refusals; after one of them no folder is left that was not there before."""
    try:
        check_disk(plan, target, already=partial.kept_bytes(plan.shards))
        if plan.base_tensors and not partial.noted("base-checked"):
            check_base(plan, control, jobs)
            partial.note("base-checked")
    except Refusal:
        if not any(partial.result.iterdir()):
            partial.discard()
        raise


def _existing_result(plan: Plan, target: Path, non_finite: str) -> dict[str, Any] | None:
    """The manifest of a target that needs no work; a target that is in the way is refused."""
    if not target.exists() and not target.is_symlink():
        return None
    if not target.is_dir():
        raise Refusal(f"{target.name} exists and is not a folder; choose another place.")
    if not any(target.iterdir()):
        return None
    manifest = read_manifest(target) if (target / MANIFEST).is_file() else None
    if manifest and manifest.get("identity") == plan.identity and _is_complete(manifest, target, non_finite):
        return manifest
    raise Refusal(f"{target.name} exists and holds something else; choose another folder or move it away.")


def _is_complete(manifest: dict[str, Any], target: Path, non_finite: str) -> bool:
    if non_finite == "refuse" and manifest.get("non_finite"):
        return False
    for entry in manifest["files"]:
        path = target / str(entry.get("path"))
        if not path.is_file() or path.stat().st_size != entry.get("size"):
            return False
    return True


def _unchanged_result(plan: Plan, manifest: dict[str, Any], target: Path, started: float) -> Result:
    leftover = partial_folder(target)
    if leftover.exists():
        with contextlib.suppress(Refusal), open_partial(target) as partial:
            partial.discard()
    names = {shard.file for shard in plan.shards}
    weights = [entry for entry in manifest["files"] if entry["path"] in names]
    trip = manifest.get("round_trip") or {}
    return Result(
        seconds=round(time.monotonic() - started, 3),
        bytes_read=0,
        bytes_written=0,
        peak_rss_bytes=_peak_rss(),
        device="none",
        shards=tuple(_shard_line(entry) for entry in weights),
        non_finite=int(manifest.get("non_finite") or 0),
        values=trip.get("values"),
        not_restored=trip.get("not_restored"),
        parameter_sum=manifest.get("parameter_sum"),
        already_there=True,
    )


def _import_torch() -> float:
    """Seconds it took; planning and refusing do without."""
    began = time.monotonic()
    try:
        import torch
    except ImportError as error:
        raise Refusal(
            "PyTorch is not installed here; install torch, numpy and safetensors to recover."
        ) from error
    torch.set_num_threads(1)
    return time.monotonic() - began


def check_device(wanted: str) -> None:
    """Refuse what is not written like a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", wanted):
        raise Refusal(f"The device {wanted!r} is not known; use auto, cpu or cuda[:N].")


def choose_device(wanted: str) -> str:
    """`cpu`, or `cuda:N` where torch can use it; `auto` and `cuda` fall back to the CPU where it cannot."""
    check_device(wanted)
    number = wanted.partition(":")[2]
    if wanted == "cpu":
        return "cpu"
    import torch

    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        return "cpu"
    return f"cuda:{int(number or 0)}"


def choose_jobs(plan: Plan, wanted: int | None, memory: int) -> int:
    """Shards to work on at once: as many as cores, shards and memory allow, and at least one."""
    if wanted is not None and wanted < 1:
        raise Refusal(f"--jobs {wanted} makes no sense; at least one shard must be in work.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(wanted or cores, fitting_jobs([shard.tasks for shard in plan.shards], plan.dtype, memory))


def _run_shards(
    plan: Plan, partial: Partial, device: str, jobs: int, control: Control
) -> tuple[list[dict[str, Any]], set[str]]:
    import torch

    from model_ops.recovery.shard import run_shard

    used: set[str] = set()

    def make(shard: ShardPlan) -> dict[str, Any]:
        control.check()
        record = partial.finished(shard, control)
        if record is not None:
            control.advance(shard.size, shard.file)
            return record
        try:
            used.add(device)
            record = run_shard(plan, shard, partial.result, device=device, control=control)
        except torch.cuda.OutOfMemoryError:
            used.add("cpu")
            record = run_shard(plan, shard, partial.result, device="cpu", control=control)
        partial.record(shard, record)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        return control.gather([pool.submit(make, shard) for shard in plan.shards]), used or {device}


def _check_finite(records: list[dict[str, Any]], non_finite: str) -> None:
    found = _non_finite_tensors(records)
    if found and non_finite == "refuse":
        name, count = next(iter(found.items()))
        others = f" and {len(found) - 1} more tensor(s)" if len(found) > 1 else ""
        raise Failure(
            f"{name} would hold {count} value(s) that are NaN or infinite{others}, so nothing was made; "
            "--non-finite report makes the weights nevertheless."
        )


def _check_restored(plan: Plan, folder: Path) -> None:
    """Files made by exclusive or with another base are no checkpoint at all; the headers show it."""
    if plan.options["method"] != "xor" or plan.action != "recover":
        return
    readers = {".safetensors": read_safetensors, ".bin": read_torch_zip}
    for path in (folder / shard.file for shard in plan.shards):
        try:
            if path.suffix in readers:
                readers[path.suffix](path)
        except Refusal as refusal:
            raise Failure(
                f"{path.name} comes out as no checkpoint, so this is not the very base, file for file, that the "
                "diff was made from."
            ) from refusal


def _non_finite_tensors(records: list[dict[str, Any]]) -> dict[str, int]:
    seen = {name: counts for record in records for name, counts in record["tensors"].items()}
    return {name: seen[name]["non_finite"] for name in sorted(seen) if seen[name]["non_finite"]}


def _small_files(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Index and copies; config.json with the dtype that the weights now have."""
    lines = []
    if plan.index:
        lines.append(write_small(folder / INDEX, plan.index))
    for file in plan.copies:
        try:
            data = inner_file(plan.first.folder, file.name).read_bytes()
        except (OSError, Refusal) as error:
            raise Failure(f"The input {file.name} cannot be read any more.") from error
        if file.name == "config.json" and plan.options["method"] == "add":
            data = with_dtype(data, plan.dtype_name)
        if len(data) != file.size:
            raise Failure(f"The input {file.name} was changed under way; nothing was made of it.")
        lines.append(write_small(folder / file.name, data))
    return lines


def _facts(
    plan: Plan, records: list[dict[str, Any]], lines: list[dict[str, Any]], parameter_sum: float | None
) -> dict[str, Any]:
    """The manifest's content; make_diff adds the base's digests and the check of its round trip."""
    counts = {name: seen for record in records for name, seen in record["tensors"].items()}
    facts: dict[str, Any] = {
        "action": plan.action,
        "identity": plan.identity,
        "options": plan.options,
        "inputs": {
            "base": [file.public() for file in plan.base_files],
            plan.first.role: [file.public() for file in plan.first_files],
        },
        "files": [{key: line[key] for key in ("path", "size", "sha256", "git_sha1")} for line in lines],
        "non_finite": sum(_non_finite_tensors(records).values()),
        "tensors": {
            placed.task.name: {
                "rule": placed.task.rule,
                "non_finite": counts.get(placed.task.name, {}).get("non_finite", 0),
            }
            for shard in plan.shards
            for placed in shard.tensors
        },
        "dropped": list(plan.dropped),
    }
    if parameter_sum is not None:
        facts["parameter_sum"] = parameter_sum
    if plan.action == "make_diff":
        facts["round_trip"] = _round_trip(plan, records)
        facts["base_tensors"] = {
            name: fact for record in records for name, fact in sorted(record["base_tensors"].items())
        }
    return facts


def _round_trip(plan: Plan, records: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {name: seen for record in records for name, seen in record["tensors"].items()}
    return {
        "dtypes": [LONG_NAMES.get(dtype, dtype) for dtype in plan.first.dtypes],
        "values": sum(placed.task.first.elements for shard in plan.shards for placed in shard.tensors),
        "not_restored": sum(seen["not_restored"] for seen in counts.values()),
        "tensors": {
            name: seen["not_restored"] for name, seen in sorted(counts.items()) if seen["not_restored"]
        },
    }


def _result(
    plan: Plan,
    records: list[dict[str, Any]],
    control: Control,
    devices: set[str],
    parameter_sum: float | None,
    seconds: float,
) -> Result:
    trip = _round_trip(plan, records) if plan.action == "make_diff" else {}
    return Result(
        seconds=round(seconds, 3),
        bytes_read=control.bytes_read,
        bytes_written=control.bytes_written,
        peak_rss_bytes=_peak_rss(),
        device=" then ".join(sorted(devices, reverse=True)),
        shards=tuple(_shard_line(record) for record in records),
        non_finite=sum(_non_finite_tensors(records).values()),
        values=trip.get("values"),
        not_restored=trip.get("not_restored"),
        parameter_sum=parameter_sum,
    )


def _shard_line(entry: dict[str, Any]) -> dict[str, Any]:
    return {"file": entry["path"], "bytes": entry["size"], "sha256": entry["sha256"]}


def _peak_rss() -> int:
    """The most memory this program held. `getrusage` would count the parent's before the fork as well."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
