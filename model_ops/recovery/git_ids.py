"""Git's SHA-1 ids of files as a Hub repository holds them: a weight file lies in LFS, so git holds its pointer.

A pointer follows from a file's SHA-256 and size (git-lfs specification, version 1), so the contents of weight
files, which are large, need not be hashed a second time.
"""

from __future__ import annotations

import hashlib
from typing import Any

LFS_SUFFIXES = (".safetensors", ".bin")


def in_lfs(name: str) -> bool:
    """Whether a Hub repository keeps the file in LFS."""
    return name.endswith(LFS_SUFFIXES)


def blob_hash(size: int) -> Any:
    """A SHA-1 to be fed a blob's `size` bytes of contents."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def pointer_id(sha256: str, size: int) -> str:
    """The id of the pointer that git holds in place of an LFS file."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    digest = blob_hash(len(pointer))
    digest.update(pointer)
    return str(digest.hexdigest())
