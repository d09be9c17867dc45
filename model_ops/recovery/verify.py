"""Check a folder against its manifest: every file is there with its size and hashes, and no others.

The manifest is untrusted: its claims are compared, and no name in it can refer to anything outside the
folder.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Cancelled, Failure, RecoveryError
from model_ops.recovery.formats.file_names import is_licence
from model_ops.recovery.formats.folder import NOT_COPIED, inner_file, open_folder, paths_in
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.inspection.files import judge_file
from model_ops.recovery.inspection.folders import entries_of
from model_ops.recovery.inspection.reading import size_of
from model_ops.recovery.inspection.tree import inspect_tree
from model_ops.recovery.planning.manifest import read_manifest
from model_ops.recovery.planning.plan import human
from model_ops.recovery.system.control import Control
from model_ops.recovery.workdir.output import Hashes

AT_ONCE = 2  # files hashed in parallel; SHA-256 is serial within a file
_CHUNK = 4 * 1024 * 1024
_SIZE_LIMIT = 2**63
_DIGESTS = {
    "sha256": ("SHA-256", re.compile(r"[0-9a-f]{64}")),
    "git_sha1": ("git id", re.compile(r"[0-9a-f]{40}")),
}


@dataclass(frozen=True)
class Verification:
    """What was checked; `problems` are sentences, empty if all is well."""

    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return whether the folder matches its manifest."""
        return not self.problems

    def summary(self) -> str:
        """Return one sentence for a person."""
        if self.ok:
            return f"{self.files} files, {human(self.bytes)}: all as the manifest says."
        more = len(self.problems) - 1
        first = self.problems[0]
        return f"{first[:-1]}, and {more} more problem{'s'[: more - 1]}: --json lists all." if more else first

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""
        return {"ok": self.ok, "files": self.files, "bytes": self.bytes, "problems": list(self.problems)}


def verify_folder(path: Path | str, control: Control | None = None) -> Verification:
    """Read and hash every file in the manifest, leaving nothing in the page cache.

    Takes a few MB of memory, however large the files are. Raises Failure if there is no usable manifest, or
    if `control` is cancelled.
    """
    control = control or Control()
    try:
        folder = open_folder(path, "result")
        if what := judge_file(folder, MANIFEST):
            raise Failure(f"The folder's {MANIFEST} {what}")
        manifest = read_manifest(folder)
        if manifest is None:  # if something is wrong with the folder, say what
            files = [name for name in entries_of(folder)[0] if not name.startswith(".")]
            inspect_tree(folder, {name: size_of(folder / name) for name in files})
            raise Failure(f"{str(path)!r} holds no {MANIFEST}, so there is nothing to verify it against.")
        entries = manifest["files"]
        checked = _check_entries(folder, entries, control)
        problems = [problem for _, found in checked for problem in found]
        # A release adds a card, licences and hidden files (`.gitattributes`); other files are not allowed.
        known = {_file_name(entry) for entry in entries}
        for name in (path.name for path in paths_in(folder) if not path.name.startswith(".")):
            if name not in known and name.lower() not in NOT_COPIED and not is_licence(name):
                problems.append(f"{shown(name)} is not in {MANIFEST}.")
    except Cancelled as error:
        raise Failure("The check was cancelled.") from error
    except RecoveryError as error:
        raise Failure(str(error)) from error
    return Verification(len(entries), sum(size for size, _ in checked), tuple(problems))


def _check_entries(folder: Path, entries: list[Any], control: Control) -> list[tuple[int, list[str]]]:
    """Return the bytes read and the problems for each entry, in the manifest's order."""
    checked: list[tuple[int, list[str]]] = [(0, [])] * len(entries)
    control.bytes_total = sum(entry["size"] for entry in entries if not _entry_damage(entry))
    seen: set[str] = set()
    listed: list[tuple[int, Any, str]] = []  # with the problems of the entry itself
    for number, entry in enumerate(entries):
        problem = _entry_damage(entry)
        if not problem and entry["path"] in seen:
            problem = f"{MANIFEST} names {shown(entry['path'])} more than once."
        elif not problem:
            seen.add(entry["path"])
        listed.append((number, entry, problem))
    todo, lock = iter(listed), threading.Lock()

    def work() -> None:
        buffer = memoryview(bytearray(_CHUNK))
        while True:
            with lock:
                number, entry, problem = next(todo, (-1, None, ""))
            if number < 0:
                return
            control.check()
            checked[number] = (0, [problem]) if problem else _check_file(folder, entry, buffer, control)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        control.gather([pool.submit(work) for _ in range(AT_ONCE)])
    return checked


def _entry_damage(entry: Any) -> str:
    """Return a sentence about an entry that cannot be compared with a file; empty if it can."""
    name = _file_name(entry)
    if name is None:
        return f"{MANIFEST} has an entry without a file name."
    size = entry.get("size")
    if type(size) is not int or not 0 <= size < _SIZE_LIMIT:
        return f"{MANIFEST} gives {shown(name)} no size that a file can have."
    for key, (what, pattern) in _DIGESTS.items():
        if not isinstance(entry.get(key), str) or not pattern.fullmatch(entry[key]):
            return f"{MANIFEST} gives {shown(name)} no {what}."
    return ""


def _file_name(entry: Any) -> str | None:
    """Return the file that an entry describes."""
    name = entry.get("path") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _check_file(folder: Path, entry: Any, buffer: memoryview, control: Control) -> tuple[int, list[str]]:
    """Return (bytes read, problems)."""
    name, wanted = entry["path"], entry["size"]
    problems: list[str] = []
    try:
        file = inner_file(folder, name)
        found = file.stat()
        mode = found.st_mode
        # A copy may have a stricter mode than the original, or give the group more access; neither is wrong.
        if mode & 0o002:
            problems.append(
                f"{shown(name)} may be changed by everyone (mode {mode & 0o777:04o}): chmod 644 it."
            )
        elif not mode & 0o400:
            problems.append(
                f"{shown(name)} may not be read by its owner (mode {mode & 0o777:04o}): chmod 644 it."
            )
        if found.st_size != wanted:
            what = judge_file(folder, name) or f"is {found.st_size} bytes long instead of {wanted}."
            return 0, [*problems, f"{shown(name)} {what}"]
        line = _hash_file(file, wanted, buffer, control)
        if file.stat().st_size != wanted:
            return wanted, [*problems, f"{shown(name)} changed its size while it was read."]
    except Cancelled:
        raise
    except RecoveryError as error:
        return 0, [*problems, str(error)]
    except OSError as error:
        return 0, [*problems, f"{shown(name)} cannot be read: {error.strerror}."]
    if line["sha256"] != entry["sha256"]:
        problems.append(f"{shown(name)} is not the file that was written: its hash differs.")
    elif line["git_sha1"] != entry["git_sha1"]:
        problems.append(f"{shown(name)} is as it was written, but {MANIFEST} gives it another git id.")
    return wanted, problems


def _hash_file(file: Path, size: int, buffer: memoryview, control: Control) -> dict[str, Any]:
    """Return the hashes of the first `size` bytes."""
    hashes, offset = Hashes(file.name, size), 0
    with closing(Reader(control)) as reader:
        while offset < size:
            control.check()
            part = buffer[: min(len(buffer), size - offset)]
            reader.read_into(str(file), offset, part)
            hashes.update(part)
            offset += len(part)
            control.advance(len(part), file.name)
    return hashes.line()


def shown(name: str) -> str:
    """Return a name for a sentence: quoted if it holds anything but printable text, since it is untrusted."""
    return name[:200] if name.isprintable() else repr(name[:200])
