"""`TARGET.partial/`: unfinished work, owned by one process at a time, resumed by the same command.

recovery.json          whose work this is: the strict identity of the plan
lock                   held (flock) by the process that writes
result/                what will be renamed to the target
FILE.done.json         the record of a finished shard, written after the shard is on the disk
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_ops.recovery.control import Control
from model_ops.recovery.errors import Refusal
from model_ops.recovery.output import FOLDER_MODE, sync_folder, write_failure
from model_ops.recovery.planned import ShardPlan

_STATE = "recovery.json"
_CHUNK = 4 * 1024 * 1024


class Partial:
    """The folder, while this process holds its lock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.result = folder, folder / "result"

    def record(self, shard: ShardPlan, record: dict[str, Any]) -> None:
        """The shard is finished."""
        self._write(f"{shard.file}.done.json", record)

    def finished(self, shard: ShardPlan, control: Control) -> dict[str, Any] | None:
        """The record of a shard whose file still has the hash it was finished with."""
        try:
            record = json.loads((self.folder / f"{shard.file}.done.json").read_bytes())
            intact = _sha256(self.result / shard.file, control) == record["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if intact and record.get("size") == shard.size else None

    def kept_bytes(self, shards: tuple[ShardPlan, ...]) -> int:
        """What the files of the shards already take on the disk."""
        total = 0
        for shard in shards:
            with contextlib.suppress(OSError):
                total += min(shard.size, (self.result / shard.file).stat().st_blocks * 512)
        return total

    def note(self, name: str) -> None:
        """Remember a step that need not be done again."""
        self._write(f"{name}.json", {})

    def noted(self, name: str) -> bool:
        """Whether that step was done."""
        return (self.folder / f"{name}.json").exists()

    def adopt(self, identity: str) -> None:
        """Keep what is there if it is this plan's; else begin anew."""
        if _identity_of(self.folder) != identity:
            self._clear()
            self._write(_STATE, {"identity": identity})
        self.result.mkdir(exist_ok=True)
        self.result.chmod(FOLDER_MODE)

    def publish(self, target: Path) -> None:
        """The one moment at which the result becomes visible."""
        try:
            sync_folder(self.result)
            self.result.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise write_failure(target.name, error) from error

    def discard(self) -> None:
        """Take the folder away; killed halfway, what is left is still known as ours."""
        with contextlib.suppress(OSError):
            self._clear()
            (self.folder / _STATE).unlink()
            (self.folder / "lock").unlink()
            self.folder.rmdir()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name not in {"lock", _STATE}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _write(self, name: str, value: dict[str, Any]) -> None:
        temporary = self.folder / f".{name}.new"
        try:
            temporary.write_text(json.dumps(value))
            temporary.replace(self.folder / name)
        except OSError as error:
            raise write_failure(name, error) from error


def partial_folder(target: Path) -> Path:
    """Beside the target, so that the rename stays on one file system."""
    return target.with_name(target.name + ".partial")


@contextlib.contextmanager
def open_partial(target: Path) -> Iterator[Partial]:
    """Make or find the folder and hold its lock; refuses a folder of someone else's, or a second process."""
    folder = partial_folder(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_foreign(folder):
            raise Refusal(f"{folder.name} exists and is not the unfinished work of a recovery; move it away.")
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Refusal(f"{folder.name} cannot be made beside the target: {error.strerror}.") from error
    try:
        _lock(descriptor, folder)
        yield Partial(folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        current = (folder / "lock").stat().st_ino
    except OSError as error:
        raise Refusal(f"Another process is writing {folder.name}; wait for it or end it.") from error
    if current != os.fstat(descriptor).st_ino:
        raise Refusal(f"Another process has just finished {folder.name}; run the same command again.")


def _is_foreign(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return bool(names - {"lock", f".{_STATE}.new"}) and _STATE not in names


def _identity_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _STATE).read_bytes())["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sha256(path: Path, control: Control) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            control.check()
            digest.update(chunk)
    return digest.hexdigest()
