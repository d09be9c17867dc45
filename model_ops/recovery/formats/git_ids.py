"""Compute git's SHA-1 ids of files as a Hub repository holds them: for files in LFS, git holds a pointer.

A pointer follows from a file's SHA-256 and size (git-lfs specification, version 1), so large weight files
need not be hashed a second time. Only this module knows the rule: the engine's manifest and the portal's
revisions both use it.
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import Any

# The patterns of a new repository on the Hub.
# fmt: off
LFS_PATTERNS = (
    "*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gz", "*.h5", "*.joblib", "*.lfs.*",
    "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb",
    "*.pickle", "*.pkl", "*.pt", "*.pth", "*.rar", "*.safetensors", "saved_model/**/*", "*.tar.*", "*.tar",
    "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst", "*tfevents*",
)
# fmt: on
LARGE = 10 * 2**20  # a larger file outside the patterns gets its own line, as in uploads by the Hub's client


def matches_lfs(path: str) -> bool:
    """Return whether one of the Hub's patterns matches the path.

    A pattern without a slash matches the file name.
    """
    name = path.rpartition("/")[2]
    return any(
        path.startswith("saved_model/") and path.count("/") >= 1
        if "/" in pattern
        else fnmatchcase(name, pattern)
        for pattern in LFS_PATTERNS
    )


def in_lfs(path: str, size: int) -> bool:
    """Return whether a Hub repository keeps the file in LFS: because of its name, or because it is large."""
    return matches_lfs(path) or size > LARGE


def blob_hash(size: int) -> Any:
    """Return a SHA-1 object, ready to be fed the `size` bytes of a blob."""
    return _start_hash("blob", size)


def git_id(kind: str, content: bytes) -> str:
    """Return the id of a git object of this kind: blob, tree or commit."""
    digest = _start_hash(kind, len(content))
    digest.update(content)
    return str(digest.hexdigest())


def blob_id(content: bytes) -> str:
    """Return the id of a file with this content."""
    return git_id("blob", content)


def pointer(sha256: str, size: int) -> bytes:
    """Return what git itself holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def pointer_id(sha256: str, size: int) -> str:
    """Return the id of that pointer."""
    return blob_id(pointer(sha256, size))


def _start_hash(kind: str, size: int) -> Any:
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), size), usedforsecurity=False)
