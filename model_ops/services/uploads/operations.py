"""What a client asks of a commit: its words, and operations on files."""

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
    """A small file whose content came within the commit and is staged."""

    path: str
    content: Staged


@dataclass(frozen=True)
class AddedLarge:
    """A file whose content was sent before, or is in the model already; a copy names no size."""

    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class Deleted:
    path: str
    is_folder: bool = False


@dataclass(frozen=True)
class Copied:
    """A file of a commit of the same model, or of the branch itself, under another name."""

    path: str
    source: str
    commit: str = ""


Operation = Added | AddedLarge | Deleted | Copied
