"""What a run did, as a value for the command's last line, for a person and for the manifest."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery.execution.device_pool import OUT_OF_MEMORY
from model_ops.recovery.execution.parameter_sum import ParameterSum
from model_ops.recovery.formats.dtypes import INPUT_NAMES
from model_ops.recovery.planning.plan import Plan, ShardPlan
from model_ops.recovery.system.control import Control


@dataclass(frozen=True)
class Result:
    """What a run did.

    `values` and `not_restored` are make_diff's check of its own round trip. `parameter_sum` is set only if
    one was expected, and `sum_note` if the expected one includes more. `let_go` is set only if finished files
    of another plan were deleted.
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
    sum_note: str | None = None
    let_go: int | None = None
    already_there: bool = False

    def summary(self) -> str:
        """Return one sentence for a person."""
        if self.already_there:
            done = "Nothing to do: the folder is already the complete result of these inputs"
        else:
            size = sum(shard["bytes"] for shard in self.shards)
            how = "verified" if self.device == "none" else f"made on {self.device}"
            done = f"{len(self.shards)} weight file(s), {size} bytes, {how} in {self.seconds:.1f} s"
        if self.not_restored is not None:
            done += f"; {self.not_restored} of {self.values} values would not come back from this diff"
        return done + "."

    @property
    def notes(self) -> list[str]:
        """Return what a person should know even though the run succeeded."""
        notes = [self.sum_note] if self.sum_note else []
        if self.let_go:
            notes.append(f"{self.let_go} finished file(s) of other inputs or options were let go.")
        if OUT_OF_MEMORY in self.device:
            notes.append(f"a GPU had too little memory left, so the weights were made on {self.device}.")
        return notes

    def to_json(self) -> dict[str, Any]:
        """Return the last line of the command's standard output."""
        shown = {name: value for name, value in vars(self).items() if value is not None}
        return {**shown, "shards": list(self.shards)}


def made_result(
    plan: Plan,
    records: list[dict[str, Any]],
    control: Control,
    devices: set[str],
    parameter_sum: ParameterSum | None,
    seconds: float,
) -> Result:
    """Return the result of a run that made something or found it all done.

    `records` are of the requested shards.
    """
    trip = round_trip(plan, records) if plan.action == "make_diff" else {}
    return Result(
        seconds=round(seconds, 3),
        bytes_read=control.bytes_read,
        bytes_written=control.bytes_written,
        peak_rss_bytes=_peak_rss(),
        device=", ".join(sorted(devices)),
        shards=tuple(_shard_line(record) for record in records),
        non_finite=sum(non_finite_tensors(records).values()),
        values=trip.get("values"),
        not_restored=trip.get("not_restored"),
        parameter_sum=parameter_sum.value if parameter_sum else None,
        sum_note=parameter_sum.note if parameter_sum else None,
    )


def unchanged_result(manifest: dict[str, Any], shards: Sequence[ShardPlan], seconds: float) -> Result:
    """Return the result of a run that found the target complete; `manifest` is the target's."""
    names = {shard.file for shard in shards}
    weights = [entry for entry in manifest["files"] if entry["path"] in names]
    trip, note = manifest.get("round_trip") or {}, manifest.get("parameter_sum_note")
    return Result(
        seconds=round(seconds, 3),
        bytes_read=0,
        bytes_written=0,
        peak_rss_bytes=_peak_rss(),
        device="none",
        shards=tuple(_shard_line(entry) for entry in weights),
        non_finite=int(manifest.get("non_finite") or 0),
        values=trip.get("values"),
        not_restored=trip.get("not_restored"),
        parameter_sum=manifest.get("parameter_sum"),
        sum_note=note if isinstance(note, str) else None,  # the manifest is untrusted
        already_there=True,
    )


def non_finite_tensors(records: list[dict[str, Any]]) -> dict[str, int]:
    """Return name -> count of NaN and infinite values, for tensors that have any."""
    seen = {name: counts for record in records for name, counts in record["tensors"].items()}
    return {name: seen[name]["non_finite"] for name in sorted(seen) if seen[name]["non_finite"]}


def round_trip(plan: Plan, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a diff's manifest says about values that would not come back."""
    counts = {name: seen for record in records for name, seen in record["tensors"].items()}
    return {
        "dtypes": [INPUT_NAMES.get(dtype, dtype) for dtype in plan.first.dtypes],
        "values": sum(placed.task.first.elements for shard in plan.shards for placed in shard.tensors),
        "not_restored": sum(seen["not_restored"] for seen in counts.values()),
        "tensors": {
            name: seen["not_restored"] for name, seen in sorted(counts.items()) if seen["not_restored"]
        },
    }


def _shard_line(entry: dict[str, Any]) -> dict[str, Any]:
    return {"file": entry["path"], "bytes": entry["size"], "sha256": entry["sha256"]}


def _peak_rss() -> int:
    """Return this program's peak memory. `getrusage` would also count the parent's from before the fork."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
