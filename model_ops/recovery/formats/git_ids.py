"""Git's SHA-1 ids of files as a Hub repository holds them: which files lie in LFS, so that git holds a pointer.

A pointer follows from a file's SHA-256 and size (git-lfs specification, version 1), so the contents of weight
files, which are large, need not be hashed a second time. The one place that knows the rule: the engine's manifest
and the portal's revisions both take it from here.
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import Any

# What a new repository on the Hub starts with.
# fmt: off
LFS_PATTERNS = (
    "*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gz", "*.h5", "*.joblib", "*.lfs.*",
    "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb",
    "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "saved_model/**/*", "*.tar.*", "*.tar",
    "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst", "*tfevents*",
)
# fmt: on
LARGE = 10 * 2**20  # above this a file outside the patterns gets a line of its own, as the Hub's upload does


def matches_lfs(path: str) -> bool:
    """Whether one of the Hub's patterns takes the path; a pattern without a slash is for the file's name."""
    name = path.rpartition("/")[2]
    return any(
        path.startswith("saved_model/") and path.count("/") >= 1
        if "/" in pattern
        else fnmatchcase(name, pattern)
        for pattern in LFS_PATTERNS
    )


def in_lfs(path: str, size: int) -> bool:
    """Whether a Hub repository keeps the file in LFS: by its name, or because it is large."""
    return matches_lfs(path) or size > LARGE


def blob_hash(size: int) -> Any:
    """A SHA-1 to be fed a blob's `size` bytes of contents."""
    return _start_hash("blob", size)


def git_id(kind: str, content: bytes) -> str:
    """The id of git's object of this kind: blob, tree or commit."""
    digest = _start_hash(kind, len(content))
    digest.update(content)
    return str(digest.hexdigest())


def blob_id(content: bytes) -> str:
    """The id of a file with this content."""
    return git_id("blob", content)


def pointer(sha256: str, size: int) -> bytes:
    """What git itself holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def pointer_id(sha256: str, size: int) -> str:
    """The id of that pointer."""
    return blob_id(pointer(sha256, size))


def _start_hash(kind: str, size: int) -> Any:
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), size), usedforsecurity=False)
