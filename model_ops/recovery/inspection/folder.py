"""Inspect a folder used as a source of weights: find its weights and refuse what cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats import file_names
from model_ops.recovery.formats.folder import check_plain, inner_file, names_to_copy, read_json_file
from model_ops.recovery.inspection import contents
from model_ops.recovery.inspection.files import judge_content
from model_ops.recovery.inspection.files import shown as shown_name
from model_ops.recovery.inspection.folders import cached_repository, entries_of, judge_link, judge_place
from model_ops.recovery.inspection.formats import adapter, find_format
from model_ops.recovery.inspection.notes import notes_on
from model_ops.recovery.inspection.reading import read_part
from model_ops.recovery.inspection.roles import Found, Role, role_of
from model_ops.recovery.inspection.weights import (
    LAYOUTS,
    Weights,
    files_of_index,
    find_weights,
    judge_index,
    judge_shards,
    unfinished_instead,
)

READ_OF_BASE = ("config.json", "tokenizer_config.json", "special_tokens_map.json")
_LIKE_WEIGHTS = (".safetensors", ".bin", ".index.json")
_WITHOUT_INDEX = ", or delete this one: the tensors are then found in the headers of the shards"
MOST_FILES = 10_000  # files whose first bytes are read


@dataclass(frozen=True)
class Inspection:
    """The weights of a folder, the tensors that an index lists for each file (None without an index), and notes."""

    weights: Weights
    listed: dict[str, set[str] | None]
    notes: tuple[str, ...]


def inspect_folder(folder: Path, role: str, *, shown: str = "") -> Inspection:
    """Find the weights of a folder (as returned by `open_folder`).

    Messages call the folder by its `role` (base, diff, tuned, result) and show the path as `shown`. Raises
    `Found` with one or two sentences if the folder, or a file that would be read or copied, is not what it
    should be.
    """
    who = role_of(role)
    files, folders = entries_of(folder)
    weights = find_weights([*files, *(name for name in folders if name.endswith(_LIKE_WEIGHTS))])
    if weights is None:
        raise Found(_why_no_weights(folder, who, files, folders, shown.rstrip("/") or str(folder)))
    listed = _read_listed_tensors(folder, weights, files, role, who)
    beside = READ_OF_BASE if role == "base" else [*names_to_copy(folder), MANIFEST]
    used = [*filter(None, [weights.index]), *listed, *(name for name in beside if name in files)]
    for name in used[:MOST_FILES]:
        if why := _judge_used(folder, name, role, who, is_weights=name in listed):
            raise Found(f"{who.whose} {shown_name(name)} {why}")
    _refuse_unfinished(used, files, who)
    weights = Weights(weights.kind, weights.index, tuple(listed))
    return Inspection(weights, listed, tuple(notes_on(folder, role, files, weights, set(used))))


def look_into(folder: Path, role: str, *, shown: str = "") -> None:
    """Raise what `inspect_folder` finds, but leave damaged files to their readers, which refuse them."""
    try:
        inspect_folder(folder, role, shown=shown)
    except Found:
        raise
    except Refusal:
        return


def inspect_payload(first: Path, base: Path, role: str) -> None:
    """Inspect two folders whose files are combined byte by byte.

    Any bytes may be valid in them, so only pointers, web pages, links and leftovers of downloads are refused,
    and in the base only for names that the first folder has too.
    """
    names_of_first = [name for name in entries_of(first)[0] if not name.startswith(".")]
    for folder, named in ((first, role), (base, "base")):
        who, files = role_of(named), entries_of(folder)[0]
        used = [name for name in names_of_first if name in files]
        for name in used[:MOST_FILES]:
            if why := judge_link(folder / name, named) or judge_content(folder, name, who, contents.KINDS):
                raise Found(f"{who.whose} {shown_name(name)} {why}")
        _refuse_unfinished(used, files, who)
    if why := _unfinished_download(first, names_of_first):
        raise Found(f"{role_of(role).name} {why}")


def _judge_used(folder: Path, name: str, role: str, who: Role, *, is_weights: bool) -> str:
    if why := judge_link(folder / name, role):
        return why
    kinds = (
        (*contents.KINDS, *contents.WEIGHTS, *contents.UNREAD, contents.TEXT)
        if is_weights
        else contents.KINDS
    )
    return judge_content(folder, name, who, kinds, strict=True)


def _read_listed_tensors(
    folder: Path, weights: Weights, files: list[str], role: str, who: Role
) -> dict[str, set[str] | None]:
    """Return each weight file with the tensors that the index lists for it, after checking the index itself."""
    if not weights.index:
        return dict.fromkeys(weights.files)
    if why := _judge_used(folder, weights.index, role, who, is_weights=False):
        raise Found(f"{who.whose} {weights.index} {why}")
    table = read_json_file(inner_file(folder, weights.index), unique=True)
    listed: dict[str, set[str] | None] = {**files_of_index(weights.index, table.get("weight_map"))}
    for name in listed:
        check_plain(folder, name)
    _, folders = entries_of(folder)
    if found := judge_index(weights.index, listed, {*files, *folders}, who, or_else=_WITHOUT_INDEX):
        raise Found(found.sentence)
    return listed


def _refuse_unfinished(used: list[str], files: list[str], who: Role) -> None:
    """Refuse a used file if an unfinished download of it is next to it."""
    for left in files:
        if (found := file_names.unfinished(left)) and found.target in used:
            name, shown = found.target, shown_name(left)
            what = (
                f"{shown}, which {found.tool} removes at the end, lies beside it"
                if found.beside
                else f"{shown} lies beside it"
            )
            or_else = (
                "until it is gone" if found.beside else f"until it ends, or delete {shown} if {name} is whole"
            )
            raise Found(
                f"{who.whose} {name} is an unfinished download: {what}. Run the same download command again {or_else}."
            )


def _why_no_weights(folder: Path, who: Role, files: list[str], folders: list[str], shown: str) -> str:
    """Return the first explanation that fits, as one or two sentences."""
    if why := _unfinished_download(folder, files) or judge_shards(files):
        return f"{who.name} {why}"
    for wanted, _ in LAYOUTS:
        if other := file_names.looks_like(wanted, files):
            return f"{who.name} has {other!r}, which should be named {wanted}. Rename it."
    if why := judge_place(folder, shown):
        return f"{who.folder} {why}"
    if why := adapter(files, lambda name: read_part(folder / name, 0, contents.HEAD)):
        return f"{who.name} {why.format(role=who.wanted)}"
    if found := find_format([*files, *(f"{name}/" for name in folders)]):
        kind, name = found
        return f"{who.name} {kind.says.format(file=shown_name(name).rstrip('/'))}"
    several = [
        name for name in files if name.endswith(".safetensors") and not file_names.is_left_beside(name)
    ]
    if len(several) > 1:
        return (
            f"{who.name} holds {several[0]!r}, {several[1]!r} and no index that says which files are its weights. Add "
            "model.safetensors.index.json, or leave a single file."
        )
    nothing = f"{who.folder} {folder.name!r} holds no weights"
    if repo_id := cached_repository(folder):
        return f"{nothing}, since only other files of {repo_id} were downloaded. Run `hf download {repo_id}`, then try again."
    odd = [
        name
        for name in files
        if name.endswith((".bin", ".pt", ".pth")) and not file_names.is_left_beside(name)
    ]
    if odd:
        return f"{nothing} under a known name. If {odd[0]!r} holds a whole state dict, rename it to pytorch_model.bin."
    return f"{nothing}; expected one of {', '.join(name for name, _ in LAYOUTS)}."


def _unfinished_download(folder: Path, files: list[str]) -> str:
    for name in files:
        found = file_names.unfinished(name)
        if found and (not found.target or found.target.endswith(_LIKE_WEIGHTS)):
            return unfinished_instead(name)
    notes = [] if find_weights(files) else entries_of(folder / file_names.HUB_NOTES)[0]
    if any(name.endswith(".incomplete") for name in notes):
        return (
            f"is an unfinished download: the Hub's client left .incomplete files in {file_names.HUB_NOTES}. Run the same "
            "`hf download` command again until it ends."
        )
    return ""
