"""Compute Git's view of a revision as the Hub does: .gitattributes, tree ids and commit ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from model_ops.recovery.formats import git_ids
from model_ops.recovery.formats.git_ids import LARGE, LFS_PATTERNS, git_id, in_lfs, matches_lfs, pointer_id

LFS = "filter=lfs diff=lfs merge=lfs -text"


@dataclass(frozen=True)
class StoredFile:
    """One file of a revision. `git_oid` is the id of Git's object: for an LFS file its pointer, else its content.

    From a blob that is also published under another name it may be the content's id: for an LFS file use `pointer`.
    """

    path: str
    sha256: str
    git_oid: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the file as a recovery's row stores it."""
        return {"path": self.path, "sha256": self.sha256, "git_oid": self.git_oid, "size": self.size}


def is_lfs(file: StoredFile) -> bool:
    """Return whether the file is published as an LFS file: by its name, or because it is large."""
    return in_lfs(file.path, file.size)


def gitattributes(files: Iterable[StoredFile]) -> bytes:
    """Return the Hub's default .gitattributes, plus a line for each large file that its patterns do not match."""
    own = sorted(file.path for file in files if file.size > LARGE and not matches_lfs(file.path))
    lines = [*LFS_PATTERNS, *(path.replace(" ", "[[:space:]]") for path in own)]
    return "".join(f"{pattern} {LFS}\n" for pattern in lines).encode()


def pointer(file: StoredFile) -> bytes:
    """Return Git's own content in place of an LFS file."""
    return git_ids.pointer(file.sha256, file.size)


def tree_id(files: Iterable[StoredFile]) -> str:
    """Return Git's id of the folder with these files, LFS files as pointers."""
    return _tree_id(_nested_folders(files))


def tree_ids(files: Iterable[StoredFile]) -> dict[str, str]:
    """Return the ids of all folders by path (the root is ""); each file is read once."""
    ids: dict[str, str] = {}
    _tree_id(_nested_folders(files), ids=ids)
    return ids


def _nested_folders(files: Iterable[StoredFile]) -> dict[str, Any]:
    folder: dict[str, Any] = {}
    for file in files:
        *parents, name = file.path.split("/")
        place = folder
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = pointer_id(file.sha256, file.size) if is_lfs(file) else file.git_oid
    return folder


def _tree_id(folder: dict[str, Any], path: str = "", ids: dict[str, str] | None = None) -> str:
    """Return the folder's id; add the id of every folder by path to `ids`, including this one."""
    entries = []
    for name, value in folder.items():
        is_folder = isinstance(value, dict)
        oid = _tree_id(value, f"{path}/{name}" if path else name, ids) if is_folder else value
        line = f"{'40000' if is_folder else '100644'} {name}\0".encode() + bytes.fromhex(oid)
        entries.append((name.encode() + (b"/" if is_folder else b""), line))
    oid = git_id("tree", b"".join(line for _, line in sorted(entries)))
    if ids is not None:
        ids[path] = oid
    return oid


def commit_id(
    *, files: Iterable[StoredFile], parent: str | None, author: str, at: datetime, message: str
) -> str:
    """Return Git's id of the commit with this content and history: the same facts give the same 40 digits."""
    who = f"{author} <> {int(at.timestamp())} +0000"
    lines = [
        f"tree {tree_id(files)}",
        *([f"parent {parent}"] if parent else []),
        f"author {who}",
        f"committer {who}",
    ]
    return git_id("commit", ("\n".join(lines) + f"\n\n{message}\n").encode())
