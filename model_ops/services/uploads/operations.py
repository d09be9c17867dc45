"""Define what a client asks of a commit: its message, and operations on files."""

from __future__ import annotations

from dataclasses import dataclass

from model_ops.services.uploads.staging import Staged


@dataclass(frozen=True)
class Header:
    summary: str
    description: str = ""
    parent: str = ""


@dataclass(frozen=True)
class Added:
    """A small file whose content came with the commit and is staged."""

    path: str
    content: Staged


@dataclass(frozen=True)
class AddedLarge:
    """A file whose content was sent before, or is already in the model; a copy has no size."""

    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class Deleted:
    path: str
    is_folder: bool = False


@dataclass(frozen=True)
class Copied:
    """A copy, under another name, of a file of the branch or of a commit of the same model."""

    path: str
    source: str
    commit: str = ""


Operation = Added | AddedLarge | Deleted | Copied
