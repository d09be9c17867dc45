"""Plan a run from little more than headers: what is read, written, grown and dropped, and how much it takes.

It imports neither torch nor numpy, so a web process can plan. A plan is deterministic: two workers that
plan from the same folders get the same shards, and `identity` confirms it.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_ops.recovery.checkpoints.checkpoint import Checkpoint, read_checkpoint, with_ties
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats import layout
from model_ops.recovery.formats.config import with_dtype
from model_ops.recovery.formats.dtypes import FILE_ORDER, ITEM_SIZE, LONG_NAMES
from model_ops.recovery.formats.folder import files_to_copy, names_to_copy, open_folder, paths_in
from model_ops.recovery.formats.safetensors import build_header
from model_ops.recovery.inspection.folder import inspect_payload, look_into
from model_ops.recovery.inspection.notes import config_note, tokenizer_note
from model_ops.recovery.planning.diff_facts import DiffFacts, TensorFact, check_headers, read_diff_facts
from model_ops.recovery.planning.expected_sum import find_expected_sum
from model_ops.recovery.planning.grown_embeddings import first_rows_alone
from model_ops.recovery.planning.identity import identify
from model_ops.recovery.planning.manifest import check_role
from model_ops.recovery.planning.memory import peak_memory
from model_ops.recovery.planning.name_prefixes import with_names_of
from model_ops.recovery.planning.options import DEFAULTS, Options
from model_ops.recovery.planning.plan import Copy, Placed, Plan, ShardPlan
from model_ops.recovery.planning.rules import Rules, TensorTask, match_tensors, times_of
from model_ops.recovery.planning.xor import plan_xor


def make_plan(
    base: Path | str, diff: Path | str, options: Options = DEFAULTS, *, target: Path | str | None = None
) -> Plan:
    """Plan `recover`: base + diff. Raises Refusal with one sentence; writes nothing.

    With `target`, its disk must have enough space.
    """
    folder = _open_both(base, diff, "diff", options.method)
    facts = read_diff_facts(folder)
    if facts and facts.method != options.method:
        raise Refusal(f"The diff was made with --method {facts.method}, not with {options.method}.")
    if facts and facts.compat and facts.compat != options.compat:
        raise Refusal(f"The diff was made for --compat {facts.compat}, not for {options.compat}.")
    if options.method == "xor":
        plan = plan_xor("recover", base, diff, facts)
        check_headers(plan.base_tensors, plan.base)
    else:
        plan = _recover_plan(base, diff, options, facts)
        expected = find_expected_sum(folder, options)
        if expected is not None:  # the end of the run compares the sum of the parameters
            asked = {"expected_sum": expected.value, "sum_tolerance": expected.tolerance}
            plan = replace(plan, expected=expected, options={**plan.options, **asked})
    return _with_room(plan, target)


def make_diff_plan(
    base: Path | str, tuned: Path | str, options: Options = DEFAULTS, *, target: Path | str | None = None
) -> Plan:
    """Plan `make_diff`: tuned - base, as the inverse of recovering with the same `compat`."""
    if options.expected_sum is not None:
        raise Refusal("A diff has no expected sum; leave --expected-sum out.")
    _open_both(base, tuned, "tuned", options.method)
    if options.method == "xor":
        return _with_room(plan_xor("make_diff", base, tuned, None), target)
    policy = options.resize_policy or ("error" if options.compat == "fastchat" else "mean")
    pair = _read_pair(base, tuned, "tuned", options)
    return _with_room(_build_plan("make_diff", pair, options, policy, {}), target)


def _open_both(base: Path | str, first: Path | str, role: str, method: str) -> Path:
    """Inspect both folders, refuse unsuitable ones, and return that of the diff or tuned model."""
    folder, base_folder = open_folder(first, role), open_folder(base, "base")
    if base_folder == folder:
        name = "diff" if role == "diff" else "tuned model"
        raise Refusal(
            f"{base} was named as the base and as the {name}; name the folder that holds the {name}."
        )
    if method == "xor":
        inspect_payload(folder, base_folder, role)
    else:
        look_into(base_folder, "base", shown=str(base))
        look_into(folder, role, shown=str(first))
    check_role(base_folder, "base")
    check_role(folder, role)
    return folder


_Pair = tuple[Checkpoint, Checkpoint]


def _read_pair(base: Path | str, first: Path | str, role: str, options: Options) -> _Pair:
    """Return both sides under the same names, with their ties. Raises Refusal if one cannot be used."""
    theirs, mine = read_checkpoint(base, "base"), read_checkpoint(first, role)
    theirs = with_names_of(theirs, mine)
    return (
        with_ties(theirs, said=options.tied, other=mine),
        with_ties(mine, said=options.tied, other=theirs),
    )


def _recover_plan(base: Path | str, diff: Path | str, options: Options, facts: DiffFacts | None) -> Plan:
    if facts is None:
        return _build_plan(
            "recover", _read_pair(base, diff, "diff", options), options, options.resize_policy, {}
        )
    options = facts.completed(options)
    pair = _read_pair(base, diff, "diff", options)
    policy = options.resize_policy or facts.resize_policy
    if policy == "cut":
        pair = first_rows_alone(*pair), pair[1]
    check_headers(facts.base_tensors, pair[0])
    plan = _build_plan("recover", pair, options, policy, facts.base_tensors)
    if plan.resized and policy != facts.resize_policy:
        raise Refusal(f"The diff was made with --resize-policy {facts.resize_policy}, not {policy}.")
    # Refuse to add the base more or less often than it was subtracted: another version knew other ties.
    for task in (task for shard in plan.shards for task in shard.tasks):
        made, planned = times_of(facts.rules.get(task.name, "")), times_of(task.rule)
        if made and planned and made != planned:
            way = (
                "pass --tied none to recover it as it was made"
                if made == 1
                else "recover it with that version"
            )
            raise Refusal(
                f"The base was subtracted {made} time(s) from {task.name} when the diff was made, and it would be added"
                f" {planned} time(s): the version that made the diff knew other ties. Make the diff again, or {way}."
            )
    return plan


def _with_room(plan: Plan, target: Path | str | None) -> Plan:
    if target is not None:
        check_disk(plan, Path(target))
    return plan


def _chosen_options(options: Options, policy: str | None) -> dict[str, Any]:
    """Return the options as the plan and the manifest name them; `policy` is None if no row is new."""
    return {
        "method": options.method,
        "compat": options.compat,
        "dtype": options.dtype_name,
        "resize_policy": policy,
        "max_shard_size": options.shard_limit,
        "keep_rotary": options.keep_rotary,
        **({"tied": options.tied} if options.tied is not None else {}),
        **({"diff_only": options.diff_only} if options.diff_only == "copy" else {}),
    }


def _build_plan(
    action: str, pair: _Pair, options: Options, policy: str | None, base_tensors: dict[str, TensorFact]
) -> Plan:
    base, first = pair
    rules = match_tensors(
        base,
        first,
        compat=options.compat,
        resize_policy=policy,
        keep_rotary=options.keep_rotary,
        diff_only=options.diff_only,
        making=action == "make_diff",
    )
    if not rules.tasks:
        raise Refusal(f"The {first.role} holds nothing but buffers, so there is nothing to make.")
    dtype = options.out_dtype
    shards = _plan_shards(rules, dtype, options.shard_limit)
    no_config = "" if first.config else config_note(first.role, bool(base.config))
    names = [path.name for path in paths_in(base.folder)]
    no_tokenizer = tokenizer_note(names_to_copy(first.folder), names, first.role)
    return Plan(
        action=action,
        base=base,
        first=first,
        options=_chosen_options(options, (policy or "mean") if rules.resized else None),
        dtype=dtype,
        shards=shards,
        index=_build_index(shards, rules) if len(shards) > 1 else None,
        copies=_plan_copies(first, dtype),
        base_files=identify(base.folder, base.files),
        first_files=identify(first.folder, first.files),
        base_tensors=base_tensors,
        dropped=rules.dropped,
        resized=rules.resized,
        notes=(*base.notes, *first.notes, *rules.notes, *filter(None, [no_config, no_tokenizer])),
        peak_memory=peak_memory([shard.tasks for shard in shards], dtype),
    )


def _plan_shards(rules: Rules, dtype: str, limit: int) -> tuple[ShardPlan, ...]:
    tasks = sorted(rules.tasks, key=lambda task: layout.natural_order(task.name))
    groups = layout.split_into_shards(
        tasks, lambda task: task.first.elements * ITEM_SIZE[task.whole or dtype], limit
    )
    return tuple(
        _plan_shard(layout.shard_name(n, len(groups)), group, dtype) for n, group in enumerate(groups)
    )


def _plan_shard(file: str, tasks: list[TensorTask], dtype: str) -> ShardPlan:
    ordered = sorted(tasks, key=lambda task: (FILE_ORDER.index(task.whole or dtype), task.name))
    kinds = [task.whole or dtype for task in ordered]
    sizes = [task.first.elements * ITEM_SIZE[kind] for task, kind in zip(ordered, kinds, strict=True)]
    header = build_header(
        [(task.name, kind, task.shape, size) for task, kind, size in zip(ordered, kinds, sizes, strict=True)]
    )
    placed, position = [], len(header)
    for task, size in zip(ordered, sizes, strict=True):
        placed.append(Placed(task, position, size))
        position += size
    if position > layout.CLIENT_LIMIT:
        raise Refusal(f"{file} would be {position} bytes long, more than the 50GB that clients download.")
    return ShardPlan(file, header, tuple(placed), position)


def _build_index(shards: tuple[ShardPlan, ...], rules: Rules) -> bytes:
    weight_map = {placed.task.name: shard.file for shard in shards for placed in shard.tensors}
    total = sum(placed.nbytes for shard in shards for placed in shard.tensors)
    parameters = sum(task.first.elements for task in rules.tasks if "rotary_emb" not in task.name)
    return layout.build_index(weight_map, total, parameters)


def _plan_copies(first: Checkpoint, dtype: str) -> tuple[Copy, ...]:
    """Return the files next to the weights; config.json has the size it will have."""
    result = []
    for file in identify(first.folder, files_to_copy(first.folder)):
        size = file.size
        if file.name == "config.json":
            try:
                raw = (first.folder / file.name).read_bytes()
            except OSError as error:
                raise Refusal(f"{file.name} cannot be read: {error.strerror}.") from error
            size = len(with_dtype(raw, LONG_NAMES[dtype]))
        result.append(Copy(file, size))
    return tuple(result)


def check_disk(plan: Plan, target: Path, already: int = 0) -> None:
    """Refuse if the file system of `target` does not have room for everything still to be written."""
    place = target.absolute()
    try:
        free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
    except OSError as error:
        raise Refusal(f"{target.name} cannot be created: {error.strerror}; choose another place.") from error
    needed = plan.disk_needed - already
    if needed > free:
        raise Refusal(
            f"There is not enough disk space for {target.name}: {needed} bytes are needed and {free} are free; "
            "free some space or choose another folder.",
            lacks="room",
            bytes_needed=needed,
        )
