"""Find a folder's weights elsewhere: in folders below or above it, or behind links."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import islice
from pathlib import Path

from model_ops.recovery.formats import file_names
from model_ops.recovery.inspection.weights import LAYOUTS, find_weights

DEPTH = 3
MOST_FOLDERS = 500  # how many are inspected
MOST_ENTRIES = 20_000  # per folder
LAYOUT_NAMES = frozenset(name for name, _ in LAYOUTS)


def entries_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return (names of files, names of folders), each sorted; both empty if the folder cannot be listed."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as found:
            for entry in islice(found, MOST_ENTRIES):
                is_folder = False
                with suppress(OSError):  # a link that loops is not a folder
                    is_folder = entry.is_dir()
                (folders if is_folder else files).append(entry.name)
    except OSError:
        return [], []
    return sorted(files), sorted(folders)


def below(folder: Path) -> list[str]:
    """Return the relative paths of folders below this one that hold weights, without following links."""
    found: list[str] = []
    level = [folder]
    looked = 0
    for _ in range(DEPTH):
        deeper = []
        for place in level:
            for name in entries_of(place)[1]:
                inner = place / name
                looked += 1
                skipped = name.startswith(".") or name.lower() in file_names.SKIPPED_FOLDERS
                store = name == "blobs" and (place / "snapshots").is_dir()
                if looked > MOST_FOLDERS or skipped or store or inner.is_symlink():
                    continue
                if find_weights(entries_of(inner)[0]):
                    found.append(inner.relative_to(folder).as_posix())
                else:
                    deeper.append(inner)
        level = deeper
    return found


def judge_place(folder: Path, shown: str) -> str:
    """Return the rest of a sentence that begins with "The base folder" if the weights are below or above it, else ""."""
    if found := below(folder):
        places = [f"'{shown}/{place}'" for place in found]
        if len(places) == 1:
            return f"holds no weights itself; they are in a folder below it. Name that one: {places[0]}."
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        return f"holds no weights itself, but several folders below it do. Name one of them: {', '.join(places[:5])}{more}."
    if folder.name == "blobs" and (folder.parent / "snapshots").is_dir():
        return "is a Hub cache's store of contents. Name a folder below 'snapshots' beside it."
    above = entries_of(folder.parent)[0]
    weights = find_weights(above)
    has_known_weights = weights is not None and (weights.is_sharded or weights.files[0] in LAYOUT_NAMES)
    if has_known_weights and "config.json" in above:
        return f"holds no weights; the folder above it does. Name that one: '{folder.parent if Path(shown).name in {'', '..'} else Path(shown).parent}'."
    return ""


def cached_repository(folder: Path) -> str:
    """Return the id of the repository that a folder of the Hub's cache is a snapshot of, else ""."""
    name = folder.parent.parent.name
    found = re.fullmatch(r"models--(?P<id>[A-Za-z0-9._-]+(?:--[A-Za-z0-9._-]+)?)", name)
    return found["id"].replace("--", "/") if found and folder.parent.name == "snapshots" else ""


def judge_link(path: Path, role: str) -> str:
    """Return the rest of a sentence about a forbidden link into git-annex or the Hub's cache, else ""."""
    try:
        if not path.is_symlink():
            return ""
        target, is_there = str(path.readlink()), path.exists()
        ends = path.resolve()
    except (OSError, RuntimeError, ValueError):
        return ""
    if "annex/objects/" in target:
        how = "unlock" if is_there else "get"
        what = "a git-annex link" if is_there else "a git-annex link, and its content is not here"
        return f"is {what}. Run `git annex {how} .` in that folder, then try again."
    repository = ends.parent.parent.name
    is_in_cache = ends.parent.name == "blobs" and repository.startswith(("models--", "datasets--"))
    # a link in a snapshot to the contents of its own repository is followed
    is_followed = is_there and any(
        above.parent.name == "snapshots" and ends.parent == above.parent.parent / "blobs"
        for above in path.parents
    )
    if not is_in_cache or is_followed:
        return ""
    if not is_there:
        return (
            "is a link into the Hub's cache, which no longer has the file. Download the repository again with `hf download`, "
            "then try again."
        )
    folder = role.upper() if role in {"base", "diff", "tuned"} else "FOLDER"
    return (
        "is a link out of the folder, into the Hub's cache, which is not followed. Copy the folder with its contents and name "
        f"the copy: `cp -rL {folder} COPY`; or name the cache's own folder snapshots/COMMIT."
    )
