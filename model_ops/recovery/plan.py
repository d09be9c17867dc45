"""The plan of a run, made from headers alone: what is read, written, grown, dropped, and what it takes.

Imports neither torch nor numpy, so that a web process may plan. A plan is deterministic: two workers that
plan from the same folders get the same shards, and `identity` says whether they did.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from model_ops.recovery import layout
from model_ops.recovery.checkpoint import Checkpoint, read_checkpoint
from model_ops.recovery.config import with_dtype
from model_ops.recovery.dtypes import ITEM_SIZE, LONG_NAMES, parse_dtype
from model_ops.recovery.errors import Refusal
from model_ops.recovery.folder import files_to_copy, open_folder
from model_ops.recovery.identity import FileIdentity, identify
from model_ops.recovery.manifest import diff_facts
from model_ops.recovery.memory import peak_memory
from model_ops.recovery.planned import Placed, Plan, ShardPlan
from model_ops.recovery.rules import COMPATS, RESIZE_POLICIES, Rules, TensorTask, match_tensors
from model_ops.recovery.safetensors_format import build_header
from model_ops.recovery.xor import plan_xor

DEFAULT_SHARD_SIZE = "5GB"
_DISK_MARGIN = 16 * 1024 * 1024


def make_plan(
    base: Path | str,
    diff: Path | str,
    *,
    dtype: str | None = None,
    compat: str = "weight_diff",
    resize_policy: str | None = None,
    max_shard_size: str = DEFAULT_SHARD_SIZE,
    keep_rotary: bool = False,
    method: str = "add",
    target: Path | str | None = None,
) -> Plan:
    """Plan `recover`: base + diff. Raises Refusal with one sentence; writes nothing.

    `dtype` None is what the compat tool writes. `resize_policy` None is what the diff's own manifest says,
    else `mean` where weight_diff would have grown the base too. With `target`, its disk must have room.
    """
    if Path(base).resolve() == Path(diff).resolve():
        raise Refusal(f"{base} was named as the base and as the diff; name the folder that holds the diff.")
    facts = diff_facts(open_folder(diff, "diff"))
    made_with = facts.get("options", {})
    if facts and made_with.get("method") != method:
        raise Refusal(f"The diff was made with --method {made_with.get('method')}, not with {method}.")
    if method == "xor":
        return _xor("recover", base, diff, facts.get("base_tensors"), dtype, target)
    base_checkpoint = read_checkpoint(base, "base")
    first = read_checkpoint(diff, "diff")
    if facts and made_with.get("compat") != compat:
        raise Refusal(f"The diff was made for --compat {made_with.get('compat')}, not for {compat}.")
    options = _options(dtype, compat, resize_policy, max_shard_size, keep_rotary)
    policy = resize_policy or made_with.get("resize_policy")
    plan = _plan("recover", base_checkpoint, first, options, policy, facts.get("base_tensors", {}))
    if facts and plan.resized and policy != made_with.get("resize_policy"):
        raise Refusal(
            f"The diff was made with --resize-policy {made_with.get('resize_policy')}, not {policy}."
        )
    if target is not None:
        check_disk(plan, Path(target))
    return plan


def make_diff_plan(
    base: Path | str,
    tuned: Path | str,
    *,
    dtype: str | None = None,
    compat: str = "weight_diff",
    resize_policy: str | None = None,
    max_shard_size: str = DEFAULT_SHARD_SIZE,
    keep_rotary: bool = False,
    method: str = "add",
    target: Path | str | None = None,
) -> Plan:
    """Plan `make_diff`: tuned - base, mirroring what recovering with the same `compat` will do."""
    if method == "xor":
        return _xor("make_diff", base, tuned, None, dtype, target)
    policy = resize_policy or ("error" if compat == "fastchat" else "mean")
    options = _options(dtype, compat, policy, max_shard_size, keep_rotary)
    checkpoints = read_checkpoint(base, "base"), read_checkpoint(tuned, "tuned")
    plan = _plan("make_diff", *checkpoints, options, policy, {})
    if target is not None:
        check_disk(plan, Path(target))
    return plan


def _xor(
    action: str,
    base: Path | str,
    first: Path | str,
    base_digests: dict[str, Any] | None,
    dtype: str | None,
    target: Path | str | None,
) -> Plan:
    if dtype is not None:
        raise Refusal("With --method xor files come back as they were; leave --dtype out.")
    plan = plan_xor(action, base, first, base_digests)
    if target is not None:
        check_disk(plan, Path(target))
    return plan


def _options(
    dtype: str | None, compat: str, resize_policy: str | None, max_shard_size: str, keep_rotary: bool
) -> dict[str, Any]:
    if compat not in COMPATS:
        raise Refusal(f"The compat tool {compat!r} is not known; use one of {', '.join(COMPATS)}.")
    if resize_policy is not None and resize_policy not in RESIZE_POLICIES:
        raise Refusal(f"The resize policy {resize_policy!r} is not known; use {', '.join(RESIZE_POLICIES)}.")
    return {
        "method": "add",
        "compat": compat,
        "dtype": LONG_NAMES[parse_dtype(dtype) if dtype else COMPATS[compat]],
        "resize_policy": resize_policy,
        "max_shard_size": layout.parse_shard_size(str(max_shard_size)),
        "keep_rotary": keep_rotary,
    }


def _plan(
    action: str,
    base: Checkpoint,
    first: Checkpoint,
    options: dict[str, Any],
    policy: str | None,
    base_tensors: dict[str, Any],
) -> Plan:
    making = action == "make_diff"
    rules = match_tensors(
        base,
        first,
        compat=options["compat"],
        resize_policy=policy,
        keep_rotary=options["keep_rotary"],
        making=making,
    )
    if policy and rules.resized:
        options = {**options, "resize_policy": policy}
    dtype = parse_dtype(options["dtype"])
    shards = _shards(rules, dtype, options["max_shard_size"])
    notes = rules.notes if first.config else (*rules.notes, f"The {first.role} has no config.json.")
    return Plan(
        action=action,
        base=base,
        first=first,
        options=options,
        dtype=dtype,
        shards=shards,
        index=_index(shards, rules) if len(shards) > 1 else None,
        copies=_copies(first, dtype),
        base_files=identify(base.folder, base.files),
        first_files=identify(first.folder, first.files),
        base_tensors=base_tensors,
        dropped=rules.dropped,
        resized=rules.resized,
        notes=notes,
        peak_memory=peak_memory([shard.tasks for shard in shards], dtype),
    )


def _shards(rules: Rules, dtype: str, limit: int) -> tuple[ShardPlan, ...]:
    tasks = sorted(rules.tasks, key=lambda task: layout.natural_order(task.name))
    groups = layout.split_into_shards(tasks, lambda task: task.first.elements * ITEM_SIZE[dtype], limit)
    return tuple(_shard(layout.shard_name(n, len(groups)), group, dtype) for n, group in enumerate(groups))


def _shard(file: str, tasks: list[TensorTask], dtype: str) -> ShardPlan:
    ordered = sorted(tasks, key=lambda task: task.name)
    sizes = [task.first.elements * ITEM_SIZE[dtype] for task in ordered]
    header = build_header(
        [(task.name, dtype, task.shape, size) for task, size in zip(ordered, sizes, strict=True)]
    )
    placed, position = [], len(header)
    for task, size in zip(ordered, sizes, strict=True):
        placed.append(Placed(task, position, size))
        position += size
    if position > layout.CLIENT_LIMIT:
        raise Refusal(f"{file} would be {position} bytes long, more than the 50GB that clients download.")
    return ShardPlan(file, header, tuple(placed), position)


def _index(shards: tuple[ShardPlan, ...], rules: Rules) -> bytes:
    weight_map = {placed.task.name: shard.file for shard in shards for placed in shard.tensors}
    total = sum(placed.nbytes for shard in shards for placed in shard.tensors)
    parameters = sum(task.first.elements for task in rules.tasks if "rotary_emb" not in task.name)
    return layout.build_index(weight_map, total, parameters)


def _copies(first: Checkpoint, dtype: str) -> tuple[FileIdentity, ...]:
    """The files beside the weights; config.json with the size it will have."""
    result = []
    for file in identify(first.folder, files_to_copy(first.folder)):
        size = file.size
        if file.name == "config.json":
            size = len(with_dtype((first.folder / file.name).read_bytes(), LONG_NAMES[dtype]))
        result.append(FileIdentity(file.name, size, file.mtime_ns, file.sample))
    return tuple(result)


def check_disk(plan: Plan, target: Path, already: int = 0) -> None:
    """Refuse if the file system of `target` has no room for what is still to be written."""
    existing = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    needed = plan.bytes_to_write + _DISK_MARGIN - already
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise Refusal(
            f"There is not enough room for {target.name}: {needed} bytes are needed and {free} are free; "
            "make room or choose another folder."
        )
