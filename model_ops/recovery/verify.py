"""Check a folder against its manifest: every file there, none too many, each with its size and hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Failure, RecoveryError
from model_ops.recovery.folder import NOT_COPIED, inner_file
from model_ops.recovery.manifest import read_manifest
from model_ops.recovery.output import Hashes

_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Verification:
    """What was checked; `problems` are sentences, none when all is well."""

    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the folder is what its manifest says."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return {"ok": self.ok, "files": self.files, "bytes": self.bytes, "problems": list(self.problems)}


def verify_folder(path: Path | str) -> Verification:
    """Read and hash every file of the manifest; raises Failure where there is no usable manifest."""
    folder = Path(path).resolve()
    try:
        manifest = read_manifest(folder)
    except RecoveryError as error:
        raise Failure(str(error)) from error
    if manifest is None:
        raise Failure(f"{str(path)!r} holds no {MANIFEST}, so there is nothing to verify it against.")
    problems, total = [], 0
    for entry in manifest["files"]:
        size, problem = _check(folder, entry)
        total += size
        problems += [problem] if problem else []
    problems += _strangers(folder, manifest["files"])
    return Verification(len(manifest["files"]), total, tuple(problems))


def _check(folder: Path, entry: Any) -> tuple[int, str | None]:
    """(bytes read, what is wrong)."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return 0, f"{MANIFEST} has an entry without a file name."
    name = entry["path"]
    try:
        file = inner_file(folder, name)
        size = file.stat().st_size
        if size != entry.get("size"):
            return 0, f"{name} is {size} bytes long instead of {entry.get('size')}."
        line = _line(file, name, size)
    except (RecoveryError, OSError) as error:
        return 0, str(error)
    if any(entry.get(key) != line[key] for key in ("sha256", "git_sha1")):
        return size, f"{name} is not the file that was written: its hash differs."
    return size, None


def _line(path: Path, name: str, size: int) -> dict[str, Any]:
    hashes = Hashes(name, size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hashes.update(chunk)
    return hashes.line()


def _strangers(folder: Path, entries: list[Any]) -> list[str]:
    """Files that nobody wrote with the others; a card and hidden files (`.gitattributes`) come when it is released."""
    known = {entry.get("path") for entry in entries if isinstance(entry, dict)}
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return [
        f"{name} is not in {MANIFEST}."
        for name in names
        if name not in known and name.lower() not in NOT_COPIED
    ]
