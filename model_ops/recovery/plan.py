"""The plan of a run, made from headers alone: what is read, written, grown, dropped, and what it takes.

Imports neither torch nor numpy, so that a web process may plan. A plan is deterministic: two workers that
plan from the same folders get the same shards, and `identity` says whether they did.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery import ENGINE_VERSION, layout
from model_ops.recovery.checkpoint import Checkpoint, read_checkpoint
from model_ops.recovery.config import with_dtype
from model_ops.recovery.dtypes import ITEM_SIZE, LONG_NAMES, parse_dtype
from model_ops.recovery.errors import Refusal
from model_ops.recovery.folder import files_to_copy
from model_ops.recovery.identity import FileIdentity, digest_of, identify
from model_ops.recovery.manifest import diff_facts
from model_ops.recovery.memory import peak_memory
from model_ops.recovery.rules import COMPATS, RESIZE_POLICIES, Rules, TensorTask, match_tensors
from model_ops.recovery.safetensors_format import build_header

DEFAULT_SHARD_SIZE = "5GB"
_DISK_MARGIN = 16 * 1024 * 1024
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Placed:
    """A task and where its result begins in the shard's file."""

    task: TensorTask
    offset: int
    nbytes: int


@dataclass(frozen=True)
class ShardPlan:
    """One output file: its header, then its tensors in name order. Can be made without the other shards."""

    file: str
    header: bytes
    tensors: tuple[Placed, ...]
    size: int

    @property
    def tasks(self) -> list[TensorTask]:
        """Its tensors' tasks in file order."""
        return [placed.task for placed in self.tensors]


@dataclass(frozen=True)
class Plan:
    """Everything a run will do. `options` are those that change a byte of the result."""

    action: str
    base: Checkpoint
    first: Checkpoint
    options: dict[str, Any]
    dtype: str
    shards: tuple[ShardPlan, ...]
    index: bytes | None
    copies: tuple[FileIdentity, ...]
    base_files: tuple[FileIdentity, ...]
    first_files: tuple[FileIdentity, ...]
    base_tensors: dict[str, Any]
    dropped: tuple[str, ...]
    resized: tuple[str, ...]
    notes: tuple[str, ...]
    peak_memory: int

    @property
    def compat(self) -> str:
        """Whose arithmetic is followed."""
        return str(self.options["compat"])

    @property
    def sign(self) -> int:
        """+1 to recover, -1 to make a diff."""
        return -1 if self.action == "make_diff" else 1

    @property
    def identity(self) -> str:
        """Equal for equal inputs and options, wherever the folders lie and whenever they were copied."""
        inputs = [[file.public() for file in files] for files in self._all_files]
        tasks = [task for shard in self.shards for task in shard.tasks]
        rules = [[task.name, task.rule, task.fill] for task in tasks]
        return digest_of([ENGINE_VERSION, self.action, self.options, rules, *inputs])

    @property
    def strict_identity(self) -> str:
        """As `identity`, and the input files were not even touched: what a resumed run asks for."""
        times = [[file.mtime_ns for file in files] for files in self._all_files]
        return digest_of([self.identity, times])

    @property
    def _all_files(self) -> tuple[tuple[FileIdentity, ...], ...]:
        return (self.base_files, self.first_files, self.copies)

    @property
    def files(self) -> tuple[tuple[str, int], ...]:
        """(name, bytes) of every file that will be written, but for the manifest."""
        index = ((INDEX, len(self.index)),) if self.index else ()
        copies = tuple((file.name, file.size) for file in self.copies)
        return (*((shard.file, shard.size) for shard in self.shards), *index, *copies)

    @property
    def bytes_to_write(self) -> int:
        """All files, but for the manifest."""
        return sum(size for _, size in self.files)

    @property
    def bytes_of_weights(self) -> int:
        """The shards alone: what progress counts."""
        return sum(shard.size for shard in self.shards)

    @property
    def bytes_to_read(self) -> int:
        """Every range that is read at least once; mean rows and the check of the base read some twice."""
        tasks = [task for shard in self.shards for task in shard.tasks]
        ranges = sum(task.first.nbytes + sum(term.nbytes for term in task.terms) for task in tasks)
        return ranges + sum(file.size for file in self.copies)

    def to_json(self) -> dict[str, Any]:
        """The plan as one JSON object, without paths: stored with the job and shown to the owner."""
        return {
            "action": self.action,
            "identity": self.identity,
            "options": self.options,
            "dtype": LONG_NAMES[self.dtype],
            "base": _input_facts(self.base, self.base_files),
            self.first.role: _input_facts(self.first, self.first_files),
            "files": [{"file": name, "bytes": size} for name, size in self.files],
            "shards": [_shard_facts(shard, self.dtype) for shard in self.shards],
            "resized": list(self.resized),
            "dropped": list(self.dropped),
            "notes": list(self.notes),
            "base_is_checked": bool(self.base_tensors),
            "bytes_to_read": self.bytes_to_read,
            "bytes_to_write": self.bytes_to_write,
            "peak_memory": self.peak_memory,
        }

    def summary(self) -> str:
        """The plan in a few lines for a person."""
        return "\n".join(_summary_lines(self))


def make_plan(
    base: Path | str,
    diff: Path | str,
    *,
    dtype: str | None = None,
    compat: str = "weight_diff",
    resize_policy: str | None = None,
    max_shard_size: str = DEFAULT_SHARD_SIZE,
    keep_rotary: bool = False,
    target: Path | str | None = None,
) -> Plan:
    """Plan `recover`: base + diff. Raises Refusal with one sentence; writes nothing.

    `dtype` None is what the compat tool writes. `resize_policy` None is what the diff's own manifest says,
    else `mean` where weight_diff would have grown the base too. With `target`, its disk must have room.
    """
    base_checkpoint = read_checkpoint(base, "base")
    first = read_checkpoint(diff, "diff")
    facts = diff_facts(first.folder)
    made_with = facts.get("options", {})
    if facts and made_with.get("compat") != compat:
        raise Refusal(f"The diff was made for --compat {made_with.get('compat')}, not for {compat}.")
    options = _options(dtype, compat, resize_policy, max_shard_size, keep_rotary)
    policy = resize_policy or made_with.get("resize_policy")
    plan = _plan("recover", base_checkpoint, first, options, policy, facts.get("base_tensors", {}))
    if facts and plan.resized and policy != made_with.get("resize_policy"):
        raise Refusal(f"The diff was made with --resize-policy {made_with.get('resize_policy')}, not {policy}.")
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
    target: Path | str | None = None,
) -> Plan:
    """Plan `make_diff`: tuned - base, mirroring what recovering with the same `compat` will do."""
    policy = resize_policy or ("error" if compat == "fastchat" else "mean")
    options = _options(dtype, compat, policy, max_shard_size, keep_rotary)
    checkpoints = read_checkpoint(base, "base"), read_checkpoint(tuned, "tuned")
    plan = _plan("make_diff", *checkpoints, options, policy, {})
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


def _input_facts(checkpoint: Checkpoint, files: tuple[FileIdentity, ...]) -> dict[str, Any]:
    return {
        "format": checkpoint.format,
        "dtypes": list(checkpoint.dtypes),
        "tensors": len(checkpoint.tensors),
        "tied": checkpoint.tie is not None,
        "files": [{"file": file.name, "bytes": file.size} for file in files],
    }


def _shard_facts(shard: ShardPlan, dtype: str) -> dict[str, Any]:
    return {
        "file": shard.file,
        "bytes": shard.size,
        "tensors": [
            {
                "name": placed.task.name,
                "rule": placed.task.rule,
                "dtype": dtype,
                "shape": list(placed.task.shape),
            }
            for placed in shard.tensors
        ],
    }


def _summary_lines(plan: Plan) -> list[str]:
    lines = []
    for checkpoint, files in ((plan.base, plan.base_files), (plan.first, plan.first_files)):
        kinds = "/".join(LONG_NAMES.get(dtype, dtype) for dtype in checkpoint.dtypes)
        size = sum(file.size for file in files)
        lines.append(
            f"{checkpoint.role}: {len(checkpoint.tensors)} tensors, {kinds}, {checkpoint.format}, "
            f"{len(files)} file(s), {human(size)}"
        )
    lines.append(
        f"{plan.action}: {plan.compat} arithmetic, written as {LONG_NAMES[plan.dtype]} in "
        f"{len(plan.shards)} weight file(s) and {len(plan.files) - len(plan.shards)} other(s)"
    )
    lines += [f"grown: {line}" for line in plan.resized]
    lines += [f"dropped: {name}" for name in plan.dropped]
    lines += [f"note: {note}" for note in plan.notes]
    if plan.action == "recover":
        known = "checked against the diff's manifest" if plan.base_tensors else "not named by the diff"
        lines.append(f"identity of the base: {known}")
    lines.append(
        f"reads {human(plan.bytes_to_read)}, writes {human(plan.bytes_to_write)}, "
        f"needs at most about {human(plan.peak_memory)} of memory"
    )
    return lines


def human(size: float) -> str:
    """Bytes for a person, in powers of ten."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
