"""The byte-wise diff (`--method xor`): each file exclusive-or the base's file of the same name.

As OpenAssistant's xor_codec: the base is cut or padded with zeros to the file's length, and others' payloads may be
compressed with gzip. Always exact, whatever the
numbers mean, but only the very same base files bring the weights back. Ours leaves all files but the weights as they
are; in others' payloads every file that has a namesake in the base is taken as coded, unless it is plain JSON.
"""

from __future__ import annotations

from pathlib import Path

from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import (
    NOT_COPIED,
    WEIGHT_SUFFIXES,
    inner_file,
    open_folder,
    paths_in,
    read_json_file,
)
from model_ops.recovery.formats.gzip_files import as_packed
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.diff_facts import DiffFacts
from model_ops.recovery.planning.identity import identify
from model_ops.recovery.planning.memory import peak_memory
from model_ops.recovery.planning.plan import Copy, Placed, Plan, ShardPlan
from model_ops.recovery.planning.rules import TensorTask


def plan_xor(action: str, base: Path | str, first: Path | str, facts: DiffFacts | None) -> Plan:
    """Plan both directions; `facts` are those of a diff made here, None for another's payload."""
    base_folder = open_folder(base, "base")
    first_folder = open_folder(first, "tuned" if action == "make_diff" else "diff")
    only_weights = action == "make_diff" or facts is not None
    names = _files(first_folder)
    coded = [name for name in names if _is_coded(first_folder, base_folder, name, only_weights)]
    shards = tuple(
        _shard(_whole(first_folder, name), _namesake(base_folder, name), may_be_packed=not only_weights)
        for name in coded
    )
    if not any(task.terms for shard in shards for task in shard.tasks):
        raise Refusal(
            "No weight file has a namesake in the base, so there is nothing to combine byte by byte."
        )
    alone = [shard.file for shard in shards if not shard.tasks[0].terms]
    coded_refs = [shard.tasks[0].first for shard in shards]
    base_refs = [term for shard in shards for term in shard.tasks[0].terms]
    return Plan(
        action=action,
        base=_as_checkpoint(base_folder, "base", base_refs),
        first=_as_checkpoint(first_folder, "tuned" if action == "make_diff" else "diff", coded_refs),
        options={"method": "xor"},
        dtype="U8",
        shards=shards,
        index=None,
        copies=tuple(
            Copy(file, file.size)
            for file in identify(first_folder, [name for name in names if name not in coded])
        ),
        base_files=identify(base_folder, [ref.name for ref in base_refs]),
        first_files=identify(first_folder, coded),
        base_tensors=facts.base_tensors if facts else {},
        dropped=(),
        resized=(),
        notes=(
            *(f"{name} has no namesake in the base and is taken as it is." for name in alone),
            *(f"{ref.name} is compressed with gzip and is decoded." for ref in coded_refs if ref.packed),
        ),
        peak_memory=peak_memory([shard.tasks for shard in shards], "U8"),
    )


def _files(folder: Path) -> list[str]:
    names = []
    for path in paths_in(folder):
        if path.name.startswith(".") or path.name.lower() in NOT_COPIED or path.is_dir():
            continue
        inner_file(folder, path.name)
        names.append(path.name)
    return names


def _is_coded(folder: Path, base: Path, name: str, only_weights: bool) -> bool:
    if (folder / name).suffix.lower() in WEIGHT_SUFFIXES:
        return True
    if only_weights or not (base / name).exists():
        return False
    try:
        read_json_file(folder / name)
    except Refusal:
        return True
    return False


def _whole(folder: Path, name: str) -> TensorRef:
    """A file as one tensor of bytes."""
    path = inner_file(folder, name)
    size = path.stat().st_size
    return TensorRef(name, str(path), 0, size, "U8", (size,))


def _namesake(base: Path, name: str) -> TensorRef | None:
    return _whole(base, name) if (base / name).exists() else None


def _shard(first: TensorRef, base: TensorRef | None, *, may_be_packed: bool) -> ShardPlan:
    first = as_packed(first, base) if may_be_packed else first
    terms: tuple[TensorRef, ...] = ()
    if base is not None:
        size = min(first.nbytes, base.nbytes)
        terms = (TensorRef(base.name, base.path, 0, size, "U8", (size,)),)
    shorter = bool(terms) and terms[0].nbytes < first.nbytes
    task = TensorTask(first.name, "xor" if terms else "copy", first, terms, fill="zero" if shorter else None)
    return ShardPlan(first.name, b"", (Placed(task, 0, first.nbytes),), first.nbytes)


def _as_checkpoint(folder: Path, role: str, refs: list[TensorRef]) -> Checkpoint:
    """Files as tensors of bytes; of the base's only the part that is combined."""
    names = tuple(ref.name for ref in refs)
    return Checkpoint(folder, role, "files", names, {ref.name: ref for ref in refs}, {})
