"""Git's view of a set of files, as the Hub has it: which files are LFS, and the ids of trees and commits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

LFS = "filter=lfs diff=lfs merge=lfs -text"
# What a new repository on the Hub starts with; LFS is decided by these patterns, not by size.
# fmt: off
LFS_PATTERNS = [
    "*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gz", "*.h5", "*.joblib", "*.lfs.*",
    "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb",
    "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "saved_model/**/*", "*.tar.*", "*.tar",
    "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst", "*tfevents*",
]
# fmt: on
LARGE = 10 * 2**20  # above this a file outside the patterns gets a line of its own, as the Hub's upload does


@dataclass(frozen=True)
class StoredFile:
    """One file of a revision. `git_oid` is what git calls it: of a weight file that may be the id of its pointer,
    so for an LFS file use `pointer`."""

    path: str
    sha256: str
    git_oid: str
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "git_oid": self.git_oid, "size": self.size}

    def below(self, folder: str) -> StoredFile:
        """The same file as seen from inside the folder."""
        return replace(self, path=self.path.removeprefix(f"{folder}/"))


def matches_lfs(path: str) -> bool:
    """Whether one of the Hub's patterns takes the path; a pattern without a slash is for the file's name."""
    name = path.rpartition("/")[2]
    return any(
        path.startswith("saved_model/") and path.count("/") >= 1
        if "/" in pattern
        else fnmatchcase(name, pattern)
        for pattern in LFS_PATTERNS
    )


def is_lfs(file: StoredFile) -> bool:
    return matches_lfs(file.path) or file.size > LARGE


def gitattributes(files: Iterable[StoredFile]) -> bytes:
    """The Hub's default file, and a line for each large file that its patterns do not take."""
    own = sorted(file.path for file in files if file.size > LARGE and not matches_lfs(file.path))
    lines = [*LFS_PATTERNS, *(path.replace(" ", "[[:space:]]") for path in own)]
    return "".join(f"{pattern} {LFS}\n" for pattern in lines).encode()


def blob_id(content: bytes) -> str:
    return git_id("blob", content)


def git_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(
        b"%s %d\0" % (kind.encode(), len(content)) + content, usedforsecurity=False
    ).hexdigest()


def pointer(file: StoredFile) -> bytes:
    """What git itself holds in place of an LFS file."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n".encode()
    )


def tree_id(files: Iterable[StoredFile]) -> str:
    """Git's id of the folder that holds these files, LFS files as their pointers."""
    folder: dict[str, Any] = {}
    for file in files:
        *parents, name = file.path.split("/")
        place = folder
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = blob_id(pointer(file)) if is_lfs(file) else file.git_oid
    return _tree_id(folder)


def _tree_id(folder: dict[str, Any]) -> str:
    entries = []
    for name, value in folder.items():
        is_folder = isinstance(value, dict)
        oid = _tree_id(value) if is_folder else value
        line = f"{'40000' if is_folder else '100644'} {name}\0".encode() + bytes.fromhex(oid)
        entries.append((name.encode() + (b"/" if is_folder else b""), line))
    return git_id("tree", b"".join(line for _, line in sorted(entries)))


def commit_id(
    *, files: Iterable[StoredFile], parent: str | None, author: str, at: datetime, message: str
) -> str:
    """Git's id of the commit with this content and history: the same facts always give the same 40 digits."""
    who = f"{author} <> {int(at.timestamp())} +0000"
    lines = [
        f"tree {tree_id(files)}",
        *([f"parent {parent}"] if parent else []),
        f"author {who}",
        f"committer {who}",
    ]
    return git_id("commit", ("\n".join(lines) + f"\n\n{message}\n").encode())
