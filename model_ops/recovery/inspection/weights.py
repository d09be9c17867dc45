"""Find the weight files of a folder by names and index, and explain why they do not match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats import file_names
from model_ops.recovery.inspection.roles import Role

INDEXES = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}
LAYOUTS = (
    ("model.safetensors", "safetensors"),
    (INDEXES["safetensors"], "safetensors"),
    ("pytorch_model.bin", "bin"),
    (INDEXES["bin"], "bin"),
)
# safetensors files that are not a checkpoint by themselves
_NO_CHECKPOINT = ("consolidated*", "adapter_*", "rank[0-9]*", "weights.[0-9]*", "training_state*")


@dataclass(frozen=True)
class Weights:
    """The weight files of a folder; `index` is the file that lists them, "" if there is none."""

    kind: str
    index: str
    files: tuple[str, ...]

    @property
    def is_sharded(self) -> bool:
        """Return whether there are several files, with or without an index."""
        return bool(self.index) or len(self.files) > 1


def find_weights(entries: Collection[str]) -> Weights | None:
    """Return the weights found by name: one file, an index (whose files are not known yet), or all shards.

    safetensors are preferred to `.bin`, as in transformers. None if there are none, or if the choice is not
    clear.
    """
    for name, kind in LAYOUTS:
        if name in entries:
            return Weights(kind, name, ()) if name.endswith(".json") else Weights(kind, "", (name,))
    groups = list(shard_groups(entries).values())
    single = [name for name in entries if _is_checkpoint(name) and not file_names.shard(name)]
    if len(groups) == 1 and not single and not missing_numbers(groups[0]):
        return Weights(groups[0][0].suffix, "", tuple(part.sibling(part.number) for part in groups[0]))
    if len(single) == 1 and not groups:
        return Weights("safetensors", "", (single[0],))
    return None


def _is_checkpoint(name: str) -> bool:
    lower = name.lower()
    return (
        name.endswith(".safetensors")
        and not file_names.is_left_beside(name)
        and not any(fnmatchcase(lower, pattern) for pattern in _NO_CHECKPOINT)
    )


def shard_groups(entries: Collection[str]) -> dict[tuple[str, int, str], list[file_names.Shard]]:
    """Return the shards grouped by checkpoint, in order; only safetensors if both formats are there."""
    groups: dict[tuple[str, int, str], list[file_names.Shard]] = defaultdict(list)
    for name in sorted(entries):
        part = file_names.shard(name)
        if part and not file_names.is_left_beside(name) and not fnmatchcase(name.lower(), "adapter_*"):
            groups[part.group].append(part)
    preferred = {group: parts for group, parts in groups.items() if group[2] == "safetensors"}
    return preferred or groups


def missing_numbers(group: list[file_names.Shard]) -> list[int]:
    """Return the numbers of missing shards. Some tools count from 0."""
    have = {part.number for part in group}
    first = 0 if 0 in have else 1
    wanted = group[0].count
    return [number for number in range(first, min(first + wanted, first + 100_000)) if number not in have]


def files_of_index(index: str, weight_map: Any) -> dict[str, set[str]]:
    """Return file -> tensors that the index lists for it, files in name order."""
    if not isinstance(weight_map, dict) or not weight_map:
        raise Refusal(f"{index} has no weight_map.")
    suffix = ".safetensors" if "safetensors" in index else ".bin"
    files: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file.endswith(suffix):
            raise Refusal(f"{index} puts {tensor[:200]!r} into something that is not a {suffix} file.")
        files.setdefault(file, set()).add(tensor)
    return dict(sorted(files.items()))


@dataclass(frozen=True)
class Misfit:
    """An index that names missing files; `is_stale` if it belongs to other weights altogether."""

    sentence: str
    is_stale: bool = False


def judge_index(
    index: str, listed: Collection[str], entries: Collection[str], who: Role, *, or_else: str = ""
) -> Misfit | None:
    """Return what is wrong with an index that names missing files; None if all are there.

    `listed` are plain names of files next to the index, `entries` all files there. `or_else` ends the advice
    about an index of other weights.
    """
    entries = set(entries)
    missing = [name for name in listed if name not in entries]
    if not missing:
        return None
    first, all_missing = missing[0], len(missing) == len(listed)
    if other := file_names.looks_like(first, entries):
        return Misfit(
            f"{who.name} has {other!r} where its {index} names {first!r}. Rename the file to {first!r}."
        )
    wanted = set(missing)
    if left := next((name for name in sorted(entries) if target_of(name) in wanted), ""):
        return Misfit(f"{who.name} {unfinished_instead(left)}")
    suffix = PurePosixPath(index.removesuffix(".index.json")).suffix
    if all_missing and (other := _first_part(suffix, entries)):
        return Misfit(
            f"{who.whose} {index} belongs to other weights: it names {first!r}, but the weights here are {other!r}. "
            f"Download the index that belongs to them{or_else}.",
            is_stale=True,
        )
    other = next((name for name, kind in LAYOUTS if kind == "bin" and name in entries), "")
    has_choice = other and all_missing and suffix == ".safetensors"
    spare = f", or delete {index} to use {other}" if has_choice else ", then try again"
    shown = _first_three([repr(name) for name in missing])
    many = f"{len(missing)} of the {len(listed)} files" if len(listed) > 1 else "the file"
    return Misfit(
        f"{who.name} lacks {many} that its {index} names: {shown}. Download what is missing, for instance "
        f"with `hf download`{spare}."
    )


def _first_part(suffix: str, entries: Collection[str]) -> str:
    """Return the first file that may hold weights of this format, else ""."""
    for name in sorted(entries):
        is_known = _is_checkpoint(name) or name.endswith(".bin")
        if name.endswith(suffix) and is_known and not file_names.is_left_beside(name):
            return name
    return ""


def _first_three(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def target_of(name: str) -> str:
    """Return the name of the finished file for an unfinished download, else ""."""
    found = file_names.unfinished(name)
    return found.target if found else ""


def unfinished_instead(name: str) -> str:
    """Return the rest of a sentence about an unfinished download in place of weights."""
    target = target_of(name)
    instead = f" is there instead of {target!r}" if target else " is there"
    return f"is an unfinished download: {name!r}{instead}. Run the same download command again until it ends."


def judge_shards(entries: Collection[str]) -> str:
    """Return the rest of a sentence about shards without an index that are not one complete set, else ""."""
    groups = shard_groups(entries)
    if len(groups) > 1:
        first, second = (group[0].sibling(group[0].number) for group in list(groups.values())[:2])
        return (
            f"holds shards of more than one checkpoint ({first!r} and {second!r}) and no index that says which count. Keep "
            "those of one checkpoint only."
        )
    for group in groups.values():
        missing = [group[0].sibling(number) for number in missing_numbers(group)]
        if missing:
            return f"lacks {len(missing)} of {group[0].count} shards: {_first_three(missing)}. Download what is missing, for instance with `hf download`, then try again."
    return ""
