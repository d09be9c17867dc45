"""Inspect files that are published unchanged: every file of a folder or an upload.

Anything that can be loaded may be published (an adapter, a quantised model, GGUF), and so may files that are not part of a
model. Only files that are certainly not what their names promise are refused, and weights with missing parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats import file_names
from model_ops.recovery.formats.folder import MAX_JSON, belongs, parse_json
from model_ops.recovery.formats.safetensors import unfinished
from model_ops.recovery.inspection import contents
from model_ops.recovery.inspection.contents import Head
from model_ops.recovery.inspection.folders import entries_of, judge_link
from model_ops.recovery.inspection.formats import ADAPTERS
from model_ops.recovery.inspection.reading import (
    Read,
    extent_of,
    head_of,
    is_cut_json,
    is_cut_zip,
    read_part,
)
from model_ops.recovery.inspection.roles import Found, Role, role_of
from model_ops.recovery.inspection.weights import files_of_index, judge_index, judge_shards

MANIFEST_HEAD = 1024  # bytes; `build_manifest` says what was done within the first few hundred
_OF_WEIGHTS = (".safetensors", ".bin", ".index.json")
_LOADED = ("model", "pytorch_model")


def inspect_tree(folder: Path, files: Mapping[str, int], role: str = "files") -> tuple[str, ...]:
    """Inspect files of a folder (`{path: bytes}`) and hidden traces of unfinished downloads; return notes.

    Raises `Found` with one or two sentences.
    """
    who = role_of(role)
    for path in files:
        if why := judge_link(folder / path, role):
            raise Found(f"{who.whose} {path} {why}")
    hidden = [name for name in entries_of(folder)[0] if name.startswith(".") and file_names.unfinished(name)]
    notes = [f"{file_names.HUB_NOTES}/{name}" for name in entries_of(folder / file_names.HUB_NOTES)[0]]
    if left := next((path for path in notes if path.endswith(".incomplete")), ""):
        raise Found(
            f"{who.name} is an unfinished download: {left} lies in it. Run the same `hf download` command again until it ends, "
            f"or delete {file_names.HUB_NOTES} if you have all files that you want."
        )
    return inspect_files(
        {**dict.fromkeys(hidden, 0), **files}, partial(_read_inside, folder.resolve()), role=role
    )


def _read_inside(folder: Path, path: str, offset: int, size: int) -> bytes:
    """Return bytes of a file; b"" for a link out of the folder, which is refused when the file is opened."""
    target = (folder / path).resolve()
    if not (target.is_relative_to(folder) or belongs(folder, target)):
        return b""
    return read_part(target, offset, size)


def inspect_files(
    files: Mapping[str, int],
    read: Read,
    *,
    role: str,
    fresh: Collection[str] | None = None,
    whole: bool = True,
) -> tuple[str, ...]:
    """Inspect named files (`{path: bytes}`) through `read(path, offset, bytes)`; return notes.

    With `fresh`, only these are read, and the others are known by their names. Without `whole`, more files
    may follow, so an index or shards with missing parts are not a mistake yet. Raises `Found`.
    """
    inspect_contents(files, read, role=role, fresh=fresh)
    check_indexes(files, read, role=role, fresh=fresh, whole=whole)
    who = role_of(role)
    notes: list[str] = []
    if MANIFEST in files and is_diff(read(MANIFEST, 0, MANIFEST_HEAD)):
        notes.append(DIFF_NOTE)
    indexes = any(path.endswith(".index.json") for path in files)
    if not indexes and sum(1 for path in files if "/" not in path and file_names.shard(path)) > 1:
        notes.append(f"{who.name} has shards and no index, without which transformers does not load them.")
    if ADAPTERS[0] in files:
        notes.append(f"{who.name} holds an adapter ({ADAPTERS[0]}), which is loaded together with its base.")
    return tuple(notes)


def inspect_contents(
    files: Mapping[str, int], read: Read, *, role: str, fresh: Collection[str] | None = None
) -> None:
    """Check the content of each file separately. Raises `Found`."""
    who = role_of(role)
    for path in sorted(files if fresh is None else fresh):
        head = head_of(path, files[path], read)
        if why := _judge_name(path, files) or _judge_content(head, read, who):
            raise Found(f"{who.whose} {path} {why}")


def check_indexes(
    files: Mapping[str, int],
    read: Read,
    *,
    role: str,
    fresh: Collection[str] | None = None,
    whole: bool = True,
) -> None:
    """Check each index of weights against the files next to it, everywhere or next to `fresh` weights."""
    changed = {
        path.rpartition("/")[0] for path in (files if fresh is None else fresh) if path.endswith(_OF_WEIGHTS)
    }
    by_folder: dict[str, set[str]] = defaultdict(set)
    for path in files:
        folder, _, name = path.rpartition("/")
        if folder in changed:
            by_folder[folder].add(name)
    for folder, entries in by_folder.items():
        _check_folder(folder, entries, files, read, role_of(role), whole=whole)


def _judge_name(path: str, files: Mapping[str, int]) -> str:
    """Return the rest of a sentence about an unfinished download or a second copy of weights, else ""."""
    name = PurePosixPath(path).name
    left = file_names.unfinished(name)
    target = str(PurePosixPath(path).with_name(left.target)) if left and left.target else ""
    if left and (
        not target or Head(target, 0, b"").promised != "the file itself" or (left.beside and target in files)
    ):
        return f"belongs to an unfinished download ({left.tool}). Run the same download command again until it ends, or delete the file."
    first = file_names.second_copy(name)
    if first and Head(first, 0, b"").is_weights:
        there = str(PurePosixPath(path).with_name(first)) in files
        return f"looks like a second copy of {first}. " + (
            "Delete one of them." if there else f"Rename it to {first}."
        )
    return ""


def _judge_content(head: Head, read: Read, who: Role) -> str:
    """Return the rest of a sentence about a file that is not what its name promises, or is incomplete; else ""."""
    kinds = (*contents.KINDS, *contents.WEIGHTS) if head.is_weights else contents.KINDS
    kinds = (*kinds, *contents.PACKED) if head.is_needed else kinds
    kinds = (*kinds, contents.TEXT) if head.is_weights and who == role_of("files") else kinds
    if why := contents.judge(head, kinds, where=who.where, again=who.again):
        return why
    extent = extent_of(head, read) if head.suffix == ".safetensors" else None
    if extent and extent.size > head.size:
        return unfinished("", head.size, extent.size).lstrip()
    if is_cut_json(head, read):
        return contents.CUT_JSON
    if head.is_weights and is_cut_zip(head, read):
        return contents.CUT
    return ""


def _check_folder(
    folder: str,
    entries: set[str],
    files: Mapping[str, int],
    read: Read,
    who: Role,
    *,
    whole: bool,
) -> None:
    """Refuse indexes that name missing files or tensors, and incomplete shards without an index."""
    inside = f"{folder}/" if folder else ""
    indexes = [
        name for name in sorted(entries) if name.endswith((".safetensors.index.json", ".bin.index.json"))
    ]
    for index in indexes:
        listed = _read_index(inside + index, files, read, who)
        found = judge_index(index, listed, entries, who)
        # an index of `.bin` files that do not exist, next to safetensors
        is_spare = (
            index.endswith(".bin.index.json")
            and entries.isdisjoint(listed)
            and any(name.endswith(".safetensors") for name in entries)
        )
        if found and not is_spare:
            if whole or found.is_stale:
                raise Found(found.sentence)
        elif whole:
            for name in filter(entries.__contains__, listed):
                extent = extent_of(head_of(inside + name, files[inside + name], read), read)
                if extent and (missing := listed[name] - extent.tensors):
                    raise Found(
                        f"{who.whose} {inside}{index} puts {min(missing)[:200]!r} into {name}, but it is not there. Download "
                        "the index again together with the weights."
                    )
    if whole and not indexes:
        shards = [
            name for name in sorted(entries) if (part := file_names.shard(name)) and part.stem in _LOADED
        ]
        if why := judge_shards(shards):
            raise Found(f"{who.name} {why}")


def _read_index(path: str, files: Mapping[str, int], read: Read, who: Role) -> dict[str, set[str]]:
    """Return file -> tensors that an index lists for it. Raise Found if it is not an index."""
    if files[path] > MAX_JSON:
        raise Found(
            f"{who.whose} {path} is larger than {MAX_JSON} bytes, too large for an index. Download it again."
        )
    try:
        table = parse_json(read(path, 0, files[path]), unique=False)
        return files_of_index(PurePosixPath(path).name, table.get("weight_map"))
    except Refusal as refusal:
        raise Found(f"{who.name} cannot be used: {refusal}") from refusal
    except (ValueError, AttributeError, RecursionError) as error:
        raise Found(f"{who.whose} {path} is not a valid index. Download it again, then try again.") from error


DIFF_NOTE = "This is a diff, not full weights: people who download it need the base to recover the weights."


def is_diff_folder(folder: Path) -> bool:
    """Return whether a folder's manifest says that it is a diff."""
    return is_diff(read_part(folder / MANIFEST, 0, MANIFEST_HEAD))


def is_diff(manifest: bytes) -> bool:
    """Return whether the beginning of a manifest says that `make_diff` wrote it."""
    head: Any = manifest.decode("utf-8", "replace")
    return '"engine": "gatehouse-recovery"' in head and '"action": "make_diff"' in head
