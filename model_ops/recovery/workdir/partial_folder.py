"""`TARGET.partial/`: unfinished work of one plan, shared by its processes and resumed by the same command.

recovery.json          the owner of this work: the strict identity of the plan
checked.json           exists once disk space and base were checked
lock                   shared by processes that make shards, exclusive while one adopts, checks or publishes
whole.lock             held by the one process that makes the whole target
FILE.lock              held by the process that makes this shard
result/                the folder that will be renamed to the target
FILE.done.json         the record of a finished shard, written after the shard is on the disk
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Cancelled, Failure, Refusal
from model_ops.recovery.formats.folder import read_json_file
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.planning.plan import ShardPlan
from model_ops.recovery.system.control import Control
from model_ops.recovery.system.locks import is_current, locked, opened, try_lock
from model_ops.recovery.workdir.output import FOLDER_MODE, create, sync_folder, write_failure
from model_ops.recovery.workdir.records import is_record

_STATE, _LOCK, _WHOLE = "recovery.json", "lock", "whole.lock"
_CHECKED = "checked.json"
_DONE = ".done.json"
_CHUNK = 4 * 1024 * 1024


class Partial:
    """The folder while this process is in it: `alone`, or with siblings that work on the same plan."""

    def __init__(self, folder: Path, identity: str, lock: int) -> None:
        self.folder, self.result = folder, folder / "result"
        self.alone = False
        self._identity, self._lock = identity, lock

    def share(self, control: Control) -> None:
        """Let sibling processes in."""
        self._change_lock(control, shared=True)

    def close_off(self, control: Control) -> None:
        """Wait until all siblings have left, and keep others out."""
        self._change_lock(control, shared=False)

    def _change_lock(self, control: Control, *, shared: bool) -> None:
        try:
            while not try_lock(self._lock, shared=shared):
                control.tick()
                control.pause()
        except OSError as error:
            raise Failure(f"{self.folder.name} cannot be locked: {error.strerror}.") from error
        if not self._is_current() or _identity_of(self.folder) != self._identity:
            raise Failure(f"Another process has taken {self.folder.name} over; run the same command again.")
        self.alone = not shared

    def join(self, control: Control) -> bool:
        """Wait for siblings and enter, alone if no one else is there.

        Return False if the folder was removed in the meantime.

        Refuses if another plan is being worked on. While a process adopts, checks or publishes, the lock is
        exclusive and the folder may not name its owner yet.
        """
        while self._is_current():
            self.alone = try_lock(self._lock)
            if self.alone:
                return self._is_current()
            if try_lock(self._lock, shared=True):
                owner = _identity_of(self.folder)
                if owner not in {self._identity, None}:
                    raise _busy_refusal(self.folder)
                if owner is not None and self.is_checked():  # the lock's holders work on our plan
                    return self._is_current()
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # the process that was adopting or checking it died
            control.tick()
            control.pause()
        return False

    def _is_current(self) -> bool:
        return is_current(self._lock, self.folder / _LOCK)

    def shard_lock(self, shard: ShardPlan, control: Control) -> AbstractContextManager[None]:
        """Return the lock for making this shard; only one process holds it, and siblings wait for it."""
        return locked(self.folder / f"{shard.file}.lock", control)

    def record(self, shard: ShardPlan, record: dict[str, Any], run_id: str) -> None:
        """Record that the shard is finished, in the run with this id."""
        changed = (self.result / shard.file).stat().st_mtime_ns
        self._write_json(_record_name(shard), {**record, "run_id": run_id, "mtime_ns": changed})

    def recorded(self, shard: ShardPlan) -> dict[str, Any] | None:
        """Return the record of a shard whose file still has its size."""
        return _read_record(self.folder, shard)

    def finished(self, shard: ShardPlan, control: Control, run_id: str) -> dict[str, Any] | None:
        """Return the record of a shard whose file still has the hash it was finished with.

        A file that the same run has finished or read, and that was not modified since, is not read again.
        """
        record, path = self.recorded(shard), self.result / shard.file
        if record is None:
            return None
        if run_id and record.get("run_id") == run_id and record.get("mtime_ns") == path.stat().st_mtime_ns:
            return record
        digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_CHUNK, shard.size)))
        try:
            with closing(Reader(control)) as reader:
                for offset in range(0, shard.size, _CHUNK):
                    view = buffer[: min(_CHUNK, shard.size - offset)]
                    reader.read_into(str(path), offset, view)
                    digest.update(view)
        except Cancelled:
            raise
        except Failure:
            return None
        if digest.hexdigest() != record.get("sha256"):
            return None
        if run_id:
            self.record(shard, record, run_id)
        return record

    def kept_bytes(self, shards: tuple[ShardPlan, ...]) -> int:
        """Return the bytes that shard files already take up on the disk, no matter who wrote them."""
        total = 0
        for shard in shards:
            with contextlib.suppress(OSError):
                total += min(shard.size, (self.result / shard.file).stat().st_blocks * 512)
        return total

    def note_checked(self) -> None:
        """Record that disk space and base were checked, so that processes that join later skip the check."""
        self._write_json(_CHECKED, {})

    def is_checked(self) -> bool:
        """Return whether disk space and base were checked."""
        return (self.folder / _CHECKED).exists()

    def adopt(self, files: Collection[str]) -> int:
        """Keep these files of the result if they belong to this plan, else start again.

        Returns how many finished files of another plan were deleted. Nothing else stays in the result, no
        matter who put it there, since it would be published with the rest.
        """
        let_go = 0
        try:
            if _identity_of(self.folder) != self._identity:
                self._write_json(_STATE, {})  # no owner, but still recognisable as ours
                let_go = len(list(self.folder.glob(f"*{_DONE}")))
                self._clear_folder()
                self._write_json(_STATE, {"identity": self._identity})
            if self.result.is_symlink() or not self.result.is_dir():
                self.result.unlink(missing_ok=True)
            self.result.mkdir(exist_ok=True)
            self.result.chmod(FOLDER_MODE)
            for path in self.result.iterdir():
                status = path.lstat()
                # Allow neither a symbolic link nor another name of a file elsewhere.
                plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if path.name not in files or not plain:
                    _remove_path(path)
        except OSError as error:
            raise write_failure(self.folder.name, error) from error
        return let_go

    def publish(self, target: Path) -> None:
        """Rename the result to the target, which makes it visible; undo this if it cannot be made durable."""
        try:
            sync_folder(self.result)
            self.result.rename(target)
            try:
                sync_folder(target.parent)
            except OSError:
                target.rename(self.result)
                raise
        except OSError as error:
            raise write_failure(target.name, error) from error

    def discard(self) -> None:
        """Remove the folder; if interrupted, the rest can still be recognised as ours."""
        with contextlib.suppress(OSError):
            self._clear_folder()
            for name in (_STATE, _LOCK, _WHOLE):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def discard_if_alone(self) -> None:
        """Remove the folder unless another process is still in it."""
        if self.alone:
            self.discard()

    def discard_if_empty(self) -> None:
        """Remove the folder unless another process is in it or it holds finished shards."""
        with contextlib.suppress(OSError):
            self.alone = self.alone or try_lock(self._lock)
            ours = _identity_of(self.folder) in {self._identity, None}
            empty = not self.result.exists() or not any(self.result.iterdir())
            if self._is_current() and ours and empty:
                self.discard_if_alone()

    def _clear_folder(self) -> None:
        for path in self.folder.iterdir():
            if path.name not in {_LOCK, _WHOLE, _STATE}:
                _remove_path(path)

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        temporary = self.folder / f".{name}.new"
        try:
            with os.fdopen(create(temporary), "w") as file:
                file.write(json.dumps(value))  # json.dump takes five times as long
            temporary.replace(self.folder / name)
        except OSError as error:
            raise write_failure(name, error) from error


def partial_folder(target: Path) -> Path:
    """Return the partial folder next to the target, so that the rename stays on one file system."""
    return target.with_name(target.name + ".partial")


def has_finished(target: Path, identity: str, shards: Iterable[ShardPlan]) -> bool:
    """Return whether these shards are recorded as finished by this plan."""
    folder = partial_folder(target)
    return _identity_of(folder) == identity and all(_read_record(folder, shard) for shard in shards)


@contextlib.contextmanager
def open_partial(target: Path, identity: str, control: Control, *, whole: bool) -> Iterator[Partial]:
    """Create or find the folder and enter it.

    Refuses a folder that belongs to something else, and a second process that makes the `whole` target.
    """
    folder = partial_folder(target)
    with ExitStack() as stack:
        try:
            while (partial := _enter_folder(stack, folder, identity, control, whole=whole)) is None:
                stack.close()
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise Refusal(
                f"{folder.name} cannot be made beside the target: {error.strerror}.",
                lacks="room" if full else "",
            ) from error
        yield partial


def _enter_folder(
    stack: ExitStack, folder: Path, identity: str, control: Control, *, whole: bool
) -> Partial | None:
    """Return the locked folder; None if a process that finished removed it in the meantime."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise Refusal(
            f"{folder.name} is a link, and unfinished work is not written through one; take it away."
        )
    with contextlib.suppress(FileNotFoundError):
        names = {path.name for path in folder.iterdir()}
        if names - {_LOCK, _WHOLE, f".{_STATE}.new"} and _STATE not in names:
            raise Refusal(f"{folder.name} exists and is not the unfinished work of a recovery; move it away.")
        if whole:
            descriptor = stack.enter_context(opened(folder / _WHOLE))
            if not try_lock(descriptor):
                raise _busy_refusal(folder)
            if not is_current(descriptor, folder / _WHOLE):
                return None
        partial = Partial(folder, identity, stack.enter_context(opened(folder / _LOCK)))
        return partial if partial.join(control) else None
    return None


def _busy_refusal(folder: Path) -> Refusal:
    return Refusal(f"Another process is writing {folder.name}; wait for it or end it.")


def _identity_of(folder: Path) -> str | None:
    try:
        return str(read_json_file(folder / _STATE)["identity"])
    except (Refusal, KeyError):
        return None


def _read_record(folder: Path, shard: ShardPlan) -> dict[str, Any] | None:
    try:
        record = read_json_file(folder / _record_name(shard))
        status = (folder / "result" / shard.file).lstat()
    except (OSError, Refusal):
        return None
    intact = stat.S_ISREG(status.st_mode) and status.st_size == shard.size
    return record if intact and is_record(record, shard) else None


def _remove_path(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _record_name(shard: ShardPlan) -> str:
    return f"{shard.file}{_DONE}"
