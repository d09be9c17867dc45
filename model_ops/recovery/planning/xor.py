"""Plan the byte-wise diff (`--method xor`): each file xor the base's file of the same name.

As in OpenAssistant's xor_codec, the base is cut or padded with zeros to the file's length, and other
publishers' payloads may be compressed with gzip. The result is always exact, whatever the numbers mean, but
only from the same base files. Our own diffs leave all files but the weights as they are; in others' payloads,
every file that the base has too is taken as coded, unless it is plain JSON.
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
    """Plan both directions. `facts` are those of a diff made by make_diff, None for another payload."""
    role = "tuned" if action == "make_diff" else "diff"
    base_folder, first_folder = open_folder(base, "base"), open_folder(first, role)
    only_weights = action == "make_diff" or facts is not None
    names = _list_files(first_folder)
    shards = _plan_shards(base_folder, first_folder, names, only_weights=only_weights)
    tasks = [task for shard in shards for task in shard.tasks]
    coded_refs = [task.first for task in tasks]
    base_refs = [term for task in tasks for term in task.terms]
    coded = [ref.name for ref in coded_refs]
    return Plan(
        action=action,
        base=_as_checkpoint(base_folder, "base", base_refs),
        first=_as_checkpoint(first_folder, role, coded_refs),
        options={"method": "xor"},
        dtype="U8",
        shards=shards,
        index=None,
        copies=_identify_copies(first_folder, names, coded),
        base_files=identify(base_folder, [ref.name for ref in base_refs]),
        first_files=identify(first_folder, coded),
        base_tensors=facts.base_tensors if facts else {},
        dropped=(),
        resized=(),
        notes=_note_uncommon_files(tasks),
        peak_memory=peak_memory([shard.tasks for shard in shards], "U8"),
    )


def _list_files(folder: Path) -> list[str]:
    """Return the names of the files that are used or copied."""
    names = []
    for path in paths_in(folder):
        if path.name.startswith(".") or path.name.lower() in NOT_COPIED or path.is_dir():
            continue
        inner_file(folder, path.name)
        names.append(path.name)
    return names


def _identify_copies(folder: Path, names: list[str], coded: list[str]) -> tuple[Copy, ...]:
    others = [name for name in names if name not in coded]
    return tuple(Copy(file, file.size) for file in identify(folder, others))


def _note_uncommon_files(tasks: list[TensorTask]) -> tuple[str, ...]:
    """Return a note on each file without a namesake in the base, and on each that is compressed."""
    alone = [task.name for task in tasks if not task.terms]
    packed = [task.name for task in tasks if task.first.packed]
    return (
        *(f"{name} has no namesake in the base and is taken as it is." for name in alone),
        *(f"{name} is compressed with gzip and is decoded." for name in packed),
    )


def _plan_shards(base: Path, first: Path, names: list[str], *, only_weights: bool) -> tuple[ShardPlan, ...]:
    coded = [name for name in names if _is_coded(first, base, name, only_weights)]
    shards = []
    for name in coded:
        file = _whole_file(first, name)
        namesake = _whole_file(base, name) if (base / name).exists() else None
        if not only_weights:
            file = as_packed(file, namesake)
        terms: tuple[TensorRef, ...] = ()
        if namesake is not None:
            size = min(file.nbytes, namesake.nbytes)
            terms = (TensorRef(namesake.name, namesake.path, 0, size, "U8", (size,)),)
        shorter = bool(terms) and terms[0].nbytes < file.nbytes
        task = TensorTask(
            file.name, "xor" if terms else "copy", file, terms, fill="zero" if shorter else None
        )
        shards.append(ShardPlan(file.name, b"", (Placed(task, 0, file.nbytes),), file.nbytes))
    if not any(task.terms for shard in shards for task in shard.tasks):
        raise Refusal(
            "No weight file has a namesake in the base, so there is nothing to combine byte by byte."
        )
    return tuple(shards)


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


def _whole_file(folder: Path, name: str) -> TensorRef:
    """Return a file as one tensor of bytes."""
    path = inner_file(folder, name)
    size = path.stat().st_size
    return TensorRef(name, str(path), 0, size, "U8", (size,))


def _as_checkpoint(folder: Path, role: str, refs: list[TensorRef]) -> Checkpoint:
    """Return files as tensors of bytes; of the base's, only the part that is combined."""
    names = tuple(ref.name for ref in refs)
    return Checkpoint(folder, role, "files", names, {ref.name: ref for ref in refs}, {})
