"""What a checkpoint folder may contain, and which of its files may be opened.

File names in an index or a listing are untrusted, so each is checked to be a plain name of a regular file
inside the folder. A link is followed only inside the folder, or into the `blobs` of the Hub cache
that the folder is a snapshot of.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.file_names import is_left_beside
from model_ops.recovery.formats.missing_folder import why_missing

MAX_JSON = 32 * 1024 * 1024  # bytes
MAX_JSON_ITEMS = (
    2_000_000  # brackets and commas; 100,000 tensors need 1 million, and 2 million take up to 200 MB
)
MAX_NAME = 200  # bytes; file systems allow 255, and unfinished files have longer names than finished ones
# Weight formats that a source or a published model may consist of.
LOADED_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
# All weight formats, including other frameworks': files in these are never copied along with the weights.
WEIGHT_SUFFIXES = frozenset((*LOADED_SUFFIXES, ".ckpt", ".h5", ".msgpack", ".npz", ".onnx"))
NOT_COPIED = frozenset(("readme.md", MANIFEST))


# This process's input folders by their real paths: files opened in one of them must be inside it.
_inputs: set[Path] = set()
_pinned: set[Path] = set()


def pin_folder(path: Path | str) -> None:
    """From now on, refuse the folder if its path contains a link: it was chosen by its real path."""
    _pinned.add(Path(path))


def open_folder(path: Path | str, role: str) -> Path:
    """Return the resolved folder. If it is missing, refuse and say which of the inputs that is."""
    folder = Path(path)
    try:
        folder = folder.resolve(strict=True)
        if folder.is_dir():
            next(folder.iterdir(), None)
            if Path(path) in _pinned and folder != Path(path):
                raise Refusal(
                    f"The {role} folder {str(path)!r} is, or lies behind, a link, which is not followed."
                )
            _inputs.add(folder)
            return folder
    except (OSError, RuntimeError, ValueError):
        pass
    raise Refusal(why_missing(path, role))


def check_opened(path: Path, descriptor: int) -> None:
    """Refuse an open file of an input folder that is really elsewhere: a link replaced it after the check.

    Linux reports the path of an open file; on other systems, only `inner_file` decides.
    """
    folder = path.parent
    if folder not in _inputs:
        return
    try:
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return
    if not belongs(folder, real):
        raise Refusal(f"{path.name!r} in {folder.name} is a link out of the folder, which is not followed.")


def inner_file(folder: Path, name: str) -> Path:
    """Return `folder/name` if it is a regular file that belongs to the folder."""
    check_plain(folder, name)
    path = folder / name
    try:
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:
        raise Refusal(f"{name[:200]!r} is missing in {folder.name} or cannot be read.") from error
    if not stat.S_ISREG(mode):
        raise Refusal(f"{name[:200]!r} in {folder.name} is not a regular file.")
    if not belongs(folder, target):
        raise Refusal(f"{name[:200]!r} in {folder.name} is a link out of the folder, which is not followed.")
    return path


def check_plain(folder: Path, name: str) -> None:
    """Refuse a name that is empty or more than a plain file name."""
    odd = not name.isprintable() or name != Path(name).name or name in {"", ".", ".."} or "\\" in name
    if odd or len(name.encode()) > MAX_NAME:
        raise Refusal(f"{folder.name} names the file {name[:200]!r}, which is not a plain file name.")


def belongs(folder: Path, target: Path) -> bool:
    """Return whether a resolved path belongs to the folder, or to the Hub cache that the folder is a snapshot of."""
    if target.parent == folder:
        return True
    return folder.parent.name == "snapshots" and target.parent == folder.parent.parent / "blobs"


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Refuse anything else, without blocking on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refusal(f"{path.name!r} is not a regular file.")
    file = os.fdopen(descriptor, "rb")
    try:
        check_opened(path, descriptor)
    except Refusal:
        file.close()
        raise
    return file


def read_json_file(path: Path, *, unique: bool = False) -> dict[str, Any]:
    """Return a JSON object from a file of limited size. With `unique`, no object may repeat a name."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_JSON:
                raise Refusal(
                    f"{path.name} is larger than {MAX_JSON} bytes, the most that is read of a JSON file."
                )
            value = parse_json(file.read(size), unique=unique)
    except UnfitJSONError as error:
        raise Refusal(f"{path.name} cannot be used: {error}.") from error
    except OSError as error:
        raise Refusal(f"{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path.name} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise Refusal(f"{path.name} does not hold a JSON object.")
    return value


class UnfitJSONError(ValueError):
    """Well-formed JSON that is refused all the same; the message says why."""


def parse_json(raw: bytes, *, unique: bool) -> Any:
    """Parse UTF-8 JSON in bounded memory. Raises ValueError or RecursionError if it is not JSON."""
    items = sum(raw.count(mark) for mark in (b"[", b"{", b","))
    if items > MAX_JSON_ITEMS:
        raise UnfitJSONError(f"it holds {items} items, more than the {MAX_JSON_ITEMS} that are read")
    hook: Callable[[list[tuple[str, Any]]], Any] | None = _object_without_duplicates if unique else None
    return json.loads(raw.decode("utf-8"), object_pairs_hook=hook)


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs. Raise UnfitJSONError if a name occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UnfitJSONError(f"the name {twice[:200]!r} is in it twice")
    return result


def paths_in(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise Refusal(f"{folder.name} cannot be listed: {error.strerror}.") from error


def files_to_copy(folder: Path) -> list[str]:
    """Return the sorted names of the files to copy (configuration, tokenizer, licence); each can be opened.

    Left out: weights in any format and their indexes, the model card, hidden files, folders, earlier
    manifests, and files left by trainers, systems and downloads.
    """
    names = names_to_copy(folder)
    for name in names:
        inner_file(folder, name)
    return names


def names_to_copy(folder: Path) -> list[str]:
    """Return what `files_to_copy` returns, without opening the files."""
    names = []
    for path in paths_in(folder):
        name = path.name
        is_weights = path.suffix.lower() in WEIGHT_SUFFIXES or name.lower().endswith(".index.json")
        is_ours = name.startswith(".") or name.lower() in NOT_COPIED or is_left_beside(name)
        if not (is_weights or is_ours or path.is_dir()):
            names.append(name)
    return names
