"""Inspect a folder that weights are made from: which files are its weights, and whether they can be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.folder import (
    belongs,
    check_plain,
    inner_file,
    names_to_copy,
    open_regular,
    read_json_file,
)
from model_ops.recovery.inspection import contents, names
from model_ops.recovery.inspection.folders import entries_of, judge_link, judge_place
from model_ops.recovery.inspection.formats import adapter, find_format
from model_ops.recovery.inspection.reading import head_of, read_part
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
_LIKE_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".index.json",
)  # a folder of this name is refused by whoever opens it
MOST_FILES = 10_000  # whose first bytes are read


@dataclass(frozen=True)
class Inspection:
    """What was found: the weights, for each file the tensors that an index puts there (None without one), and notes."""

    weights: Weights
    listed: dict[str, set[str] | None]
    notes: tuple[str, ...]


def inspect_folder(folder: Path, role: str, *, shown: str = "") -> Inspection:
    """Find the weights of a folder (as `open_folder` gives it).

    `role` is how sentences call it (base, diff, tuned, result), `shown` the path as it was typed. Raises `Found` with one
    or two sentences where the folder, or a file that would be read or copied, is something else than it should be.
    """
    who = role_of(role)
    files, folders = entries_of(folder)
    weights = find_weights([*files, *(name for name in folders if name.endswith(_LIKE_WEIGHTS))])
    if weights is None:
        raise Found(_why_no_weights(folder, who, files, folders, shown.rstrip("/") or str(folder)))
    listed = _listed(folder, weights, files, role, who)
    beside = READ_OF_BASE if role == "base" else [*names_to_copy(folder), MANIFEST]
    used = [*filter(None, [weights.index]), *listed, *(name for name in beside if name in files)]
    for name in used[:MOST_FILES]:
        if why := _judge_used(folder, name, role, who, is_weights=name in listed):
            raise Found(f"{who.whose} {_shown(name)} {why}")
    _refuse_unfinished(used, files, who)
    weights = Weights(weights.kind, weights.index, tuple(listed))
    return Inspection(weights, listed, tuple(_notes(folder, role, who, files, weights, set(used))))


def look_into(folder: Path, role: str, *, shown: str = "") -> None:
    """Raise what `inspect_folder` finds; leave what is damaged (an index, say) to whoever reads it."""
    try:
        inspect_folder(folder, role, shown=shown)
    except Found:
        raise
    except Refusal:
        return


def inspect_payload(first: Path, base: Path, role: str) -> None:
    """Look at two folders whose files are combined byte by byte.

    Any bytes may be right in them, so only pointers, pages, links and what a download left are refused, and in the base
    only under names that the first folder has too.
    """
    names_of_first = [name for name in entries_of(first)[0] if not name.startswith(".")]
    for folder, named in ((first, role), (base, "base")):
        who, files = role_of(named), entries_of(folder)[0]
        used = [name for name in names_of_first if name in files]
        for name in used[:MOST_FILES]:
            if why := judge_link(folder / name, named) or _judge_content(folder, name, who, contents.KINDS):
                raise Found(f"{who.whose} {_shown(name)} {why}")
        _refuse_unfinished(used, files, who)
    if why := _unfinished_download(first, names_of_first):
        raise Found(f"{role_of(role).name} {why}")


def judge_file(folder: Path, name: str) -> str:
    """What follows the name of a file that is a pointer, a page or empty; "" for any other, and where there is none."""
    kinds = (*contents.KINDS, contents.WEIGHTS[0])
    return judge_link(folder / name, "folder") or _judge_content(folder, name, role_of("folder"), kinds)


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _judge_used(folder: Path, name: str, role: str, who: Role, *, is_weights: bool) -> str:
    if why := judge_link(folder / name, role):
        return why
    kinds = (
        (*contents.KINDS, *contents.WEIGHTS, *contents.UNREAD, contents.TEXT)
        if is_weights
        else contents.KINDS
    )
    return _judge_content(folder, name, who, kinds)


def _judge_content(folder: Path, name: str, who: Role, kinds: tuple[contents.Kind, ...]) -> str:
    path = folder / name
    try:
        if not (path.resolve(strict=True).is_file() and _is_inside(folder, path)):
            return ""  # what it is, is said by whoever opens it
        size = path.stat().st_size
    except (OSError, RuntimeError, ValueError):
        return ""
    head = head_of(name, size, lambda _, offset, count: read_part(path, offset, count))
    return contents.judge(head, kinds, where=who.where, again=who.again)


def _is_inside(folder: Path, path: Path) -> bool:
    """A link's target is opened only where `inner_file` would open it."""
    return belongs(folder, path.resolve())


def _listed(
    folder: Path, weights: Weights, files: list[str], role: str, who: Role
) -> dict[str, set[str] | None]:
    """Each weight file with the tensors that the index puts there; the index itself is looked at first."""
    if not weights.index:
        return dict.fromkeys(weights.files)
    if why := _judge_used(folder, weights.index, role, who, is_weights=False):
        raise Found(f"{who.whose} {weights.index} {why}")
    table = read_json_file(inner_file(folder, weights.index), unique=True)
    listed: dict[str, set[str] | None] = {**files_of_index(weights.index, table.get("weight_map"))}
    for name in listed:
        check_plain(folder, name)
    _, folders = entries_of(folder)
    if why := judge_index(weights.index, listed, {*files, *folders}):
        raise Found(f"{who.name} {why}")
    return listed


def _refuse_unfinished(used: list[str], files: list[str], who: Role) -> None:
    """Refuse a file that is used while a download of it lies beside it."""
    for left in files:
        if (found := names.unfinished(left)) and found.target in used:
            name, shown = found.target, _shown(left)
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
    """The first thing that explains it, as a whole sentence."""
    explain: tuple[Callable[[], str], ...] = (
        lambda: _unfinished_download(folder, files),
        lambda: judge_shards(files),
        lambda: _other_name(files),
    )
    for ask in explain:
        if why := ask():
            return f"{who.name} {why}"
    if why := judge_place(folder, shown):
        return f"{who.folder} {why}"
    if why := adapter(files, lambda name: read_part(folder / name, 0, contents.HEAD)):
        return f"{who.name} {why.format(role=who.wanted)}"
    if found := find_format([*files, *(f"{name}/" for name in folders)]):
        kind, name = found
        return f"{who.name} {kind.says.format(file=_shown(name).rstrip('/'))}"
    known = ", ".join(name for name, _ in LAYOUTS)
    return f"{who.folder} {folder.name!r} holds no weights{_what_instead(files)}; expected one of {known}."


def _unfinished_download(folder: Path, files: list[str]) -> str:
    for name in files:
        found = names.unfinished(name)
        if found and (not found.target or found.target.endswith(_LIKE_WEIGHTS)):
            return unfinished_instead(name)
    notes = [] if find_weights(files) else entries_of(folder / names.HUB_NOTES)[0]
    if any(name.endswith(".incomplete") for name in notes):
        return (
            f"is an unfinished download: the Hub's client left .incomplete files in {names.HUB_NOTES}. Run the same "
            "`hf download` command again until it ends."
        )
    return ""


def _other_name(files: list[str]) -> str:
    for wanted, _ in LAYOUTS:
        if other := names.looks_like(wanted, files):
            return f"has {other!r}, which should be named {wanted}. Rename it."
    return ""


def _what_instead(files: list[str]) -> str:
    """Other files that may be weights, as part of a sentence."""
    several = [name for name in files if name.endswith(".safetensors") and not names.is_left_beside(name)]
    if len(several) > 1:
        return f" that can be told apart ({several[0]!r}, {several[1]!r} and no index)"
    odd = [
        name for name in files if name.endswith((".bin", ".pt", ".pth")) and not names.is_left_beside(name)
    ]
    return f" under a known name ({odd[0]!r} is there)" if odd else ""


def _notes(
    folder: Path, role: str, who: Role, files: list[str], weights: Weights, used: set[str]
) -> Iterable[str]:
    """What the owner of a plan should know although nothing is refused."""
    if not weights.index and len(weights.files) > 1:
        index = f"{_stem(weights.files[0])}.{weights.kind}.index.json"
        yield f"{who.name} has no {index}; its tensors were found in the headers of all {len(weights.files)} shards."
    if "adapter_config.json" in files:
        kept = "is not applied" if role == "base" else "is left out of the result"
        yield f"{who.whose} weights have an adapter beside them (adapter_config.json), which {kept}."
    for name in files:
        if (copy := names.second_copy(name)) and copy in used:
            yield f"{who.whose} {_shown(name)} looks like a second copy of {copy} and is not read."
    for name in weights.files:
        if _has_holes(folder / name):
            yield (
                f"{who.whose} {name} has parts that were never written and read as zeros; if its download broke off, "
                "download it again."
            )
    if role == "base":
        for name in [name for name in files if name not in used][:MOST_FILES]:
            if why := _judge_content(folder, name, who, contents.KINDS[:3]):
                yield f"{who.whose} {_shown(name)} {why.split('. ')[0]}; nothing is made from it."


def _stem(name: str) -> str:
    part = names.shard(name)
    return part.stem if part else name


def _has_holes(path: Path) -> bool:
    """Whether the file system says that a part was never written. False where it does not say."""
    try:
        with open_regular(path) as file:
            end = os.fstat(file.fileno()).st_size
            return end > 0 and os.lseek(file.fileno(), 0, os.SEEK_HOLE) < end
    except (OSError, AttributeError, Refusal):
        return False


def tokenizer_note(first: Iterable[str], base: Iterable[str], role: str) -> str:
    """A note where the files of the first folder hold no tokenizer and those of the base do; else ""."""
    have, others = set(first), names.tokenizer_files(sorted(base))
    if names.vocabularies(have) or not names.vocabularies(others):
        return ""
    lacking = ", ".join(name for name in others if name not in have)
    return f"The {role} has no tokenizer, so transformers cannot load the result until you copy the base's into it: {lacking}."


def quantised_note(config: dict[str, object], role: str) -> str:
    """A note where a configuration says that plain weights are quantised, so that loaders would quantise them; else ""."""
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return ""
    method = json.dumps(said.get("quant_method"))[:40]
    return (
        f"config.json of the {role} has a quantization_config ({method}), but its weights are not quantised; take it out of the "
        "result's config.json unless loaders shall quantise them."
    )
