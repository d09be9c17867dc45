"""The end of a run: the last checks, then the small files and the manifest next to the shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.parameter_sum import ParameterSum, check_parameter_sum
from model_ops.recovery.execution.restored_files import check_restored
from model_ops.recovery.execution.result import non_finite_tensors, round_trip
from model_ops.recovery.formats.config import with_dtype
from model_ops.recovery.formats.folder import inner_file
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.planning.identity import check_unchanged
from model_ops.recovery.planning.manifest import build_manifest
from model_ops.recovery.planning.plan import INDEX, Copy, Plan, ShardPlan
from model_ops.recovery.system.control import Control
from model_ops.recovery.workdir.output import write_parts, write_small

NON_FINITE = ("refuse", "report")
_PART = 4 * 1024 * 1024


def check_shard(plan: Plan, shard: ShardPlan, record: dict[str, Any], folder: Path, non_finite: str) -> None:
    """Raise Failure if a finished shard contains NaN or infinity and the plan refuses them."""
    found = non_finite_tensors([record])
    if found and non_finite == "refuse":
        name, count = next(iter(found.items()))
        others = f" and {len(found) - 1} more tensor(s)" if len(found) > 1 else ""
        raise Failure(
            f"{name} would hold {count} value(s) that are NaN or infinite{others}, so nothing was made; "
            "--non-finite report makes the weights nevertheless."
        )
    check_restored(plan, shard, folder)


def check_inputs(plan: Plan) -> None:
    """Raise Failure if an input has changed since the plan was made."""
    check_unchanged(plan.base.folder, plan.base_files)
    check_unchanged(plan.first.folder, plan.first_files)


def write_rest(
    plan: Plan, records: list[dict[str, Any]], folder: Path, control: Control
) -> ParameterSum | None:
    """Write everything except the shards, the manifest last. Return the parameter sum if one was expected."""
    parameter_sum = check_parameter_sum(plan, records, control)
    lines = list(records)
    if plan.index:
        lines.append(write_small(folder / INDEX, plan.index))
    with closing(Reader(control)) as reader:
        for file in plan.copies:
            parts = _read_parts(plan.first.folder, file, reader, control)
            if file.name == "config.json" and plan.options["method"] == "add":
                # with the dtype that the weights have now
                raw, data = b"".join(bytes(part) for part in parts), None
                with suppress(Refusal):
                    data = with_dtype(raw, plan.dtype_name)
                if data is None or len(data) != file.size:
                    raise Failure("The input config.json was changed under way; nothing was made of it.")
                lines.append(write_small(folder / file.name, data))
            else:
                lines.append(write_parts(folder / file.name, file.size, parts))
    check_unchanged(plan.first.folder, tuple(file.source for file in plan.copies))
    write_small(folder / MANIFEST, build_manifest(_manifest_facts(plan, records, lines, parameter_sum)))
    return parameter_sum


def _read_parts(folder: Path, file: Copy, reader: Reader, control: Control) -> Iterator[memoryview]:
    """Yield a file's planned length in parts.

    It may be of any size, so one buffer holds each part in turn.
    """
    try:
        path = str(inner_file(folder, file.name))
    except Refusal as refusal:
        raise Failure(f"The input {file.name} cannot be read any more.") from refusal
    size = file.source.size
    buffer = memoryview(bytearray(min(_PART, size)))
    for start in range(0, size, _PART):
        control.tick()
        view = buffer[: min(_PART, size - start)]
        reader.read_into(path, start, view)
        yield view


def _manifest_facts(
    plan: Plan, records: list[dict[str, Any]], lines: list[dict[str, Any]], parameter_sum: ParameterSum | None
) -> dict[str, Any]:
    """Return the manifest's content.

    `make_diff` adds the base's digests and the result of its round-trip check.
    """
    # Each tensor's rule and statistics; an empty tensor has none, and bytes are not counted.
    counts = {name: seen for record in records for name, seen in record["tensors"].items()}
    tensors: dict[str, Any] = {}
    for task in (task for shard in plan.shards for task in shard.tasks):
        tensors[task.name] = {"rule": task.rule}
        if plan.options["method"] != "xor":
            seen = counts.get(task.name, {})
            tensors[task.name]["non_finite"] = seen.get("non_finite", 0)
            tensors[task.name] |= {"min": seen.get("min"), "max": seen.get("max")}
    facts: dict[str, Any] = {
        "action": plan.action,
        "identity": plan.identity,
        "options": plan.options,
        "inputs": {
            "base": [file.public() for file in plan.base_files],
            plan.first.role: [file.public() for file in plan.first_files],
        },
        "files": [{key: line[key] for key in ("path", "size", "sha256", "git_sha1")} for line in lines],
        "non_finite": sum(non_finite_tensors(records).values()),
        "tensors": tensors,
        "dropped": list(plan.dropped),
    }
    if parameter_sum is not None:
        facts["parameter_sum"] = parameter_sum.value
        if parameter_sum.note:
            facts["parameter_sum_note"] = parameter_sum.note
    if plan.action == "make_diff":
        facts["round_trip"] = round_trip(plan, records)
        facts["base_tensors"] = {
            name: fact for record in records for name, fact in sorted(record["base_tensors"].items())
        }
    return facts
