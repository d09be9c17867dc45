"""Prepare the work on a recovery: its folder, the lock on it, and the child process that does the work."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from model_ops.enums import RecoveryState, WaitsFor
from model_ops.models import Recovery
from model_ops.recovery.errors import Refusal
from model_ops.services.recoveries.child_process import Ended, run_child
from model_ops.services.recoveries.failures import MORE_MEMORY, LeaseLost, RunFailed, RunRefused, RunWaits
from model_ops.services.recoveries.leases import Lease

log = logging.getLogger(__name__)

SIGKILL = 9
TOGETHER = 1.0  # seconds; a worker that is killed together with its child does not live longer than this
LOCK_PAUSE = 0.5  # seconds


def output_folder(recovery: Recovery) -> Path:
    """Return the folder for the engine's output; unfinished work is next to it, in `ID.partial`."""
    return Path(settings.WEIGHTS_ROOT) / "recoveries" / str(recovery.pk)


@contextlib.contextmanager
def writing(output: Path, lease: Lease, *, shared: bool = False) -> Iterator[int]:
    """Wait until no process of an earlier lease writes there, and lock it; the engine inherits the lock.

    Processes that make shards share it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(output.with_name(f"{output.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _try_lock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if lease.lost.wait(LOCK_PAUSE):
                raise LeaseLost
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_engine(arguments: list[str], lease: Lease, *, lock: int) -> None:
    """Run the engine to its end; raise its refusals and failures with its own messages."""
    ended = run_for(arguments, lease, pass_fds=(lock,))
    if ended.status == Refusal.exit_status:
        raise RunRefused(ended.last_words or "The engine refused the inputs without saying why.")
    if ended.status:
        raise RunFailed(
            ended.last_words or f"The engine ended with status {ended.status} without saying why."
        )


def run_for(arguments: list[str], lease: Lease, **options: Any) -> Ended:
    """Run a child to its end. Raises RunWaits if the system killed it, or if something is missing for now."""
    ended = run_child(
        arguments=arguments, on_progress=lambda found: _report_bytes(lease, found), stop=lease.lost, **options
    )
    if ended.stopped:
        raise LeaseLost
    if ended.status < 0:
        log.warning("%s was killed by signal %s", arguments[1], -ended.status)
        if lease.lost.wait(TOGETHER):
            raise LeaseLost
        cause = ", most likely because memory ran out" if -ended.status == SIGKILL else ""
        why = f"The system ended the run (signal {-ended.status}){cause}."
        raise RunWaits(WaitsFor.AGAIN, why, advice=MORE_MEMORY)
    if ended.status and (lacks := ended.result.get("lacks")) in WaitsFor.values:
        log.warning("%s lacks %s: %s", arguments[1], lacks, ended.last_words)
        # What was missing is worded for a page: the child's own message is for a command line.
        if lacks == WaitsFor.DEVICE:
            failed = ended.last_words.partition(";")[0]
            raise RunWaits(WaitsFor.DEVICE, f"{failed}.", advice="Check the GPU, then try again.")
        if lacks == WaitsFor.REMOTE:
            said = ended.last_words.rpartition(": ")[0] or ended.last_words
            why, seconds = f"{said}. It will be tried again.", int(ended.result.get("seconds", 0))
            raise RunWaits(WaitsFor.REMOTE, why, seconds=seconds)
        needed = int(ended.result.get("bytes_needed", 0))
        raise RunWaits(WaitsFor(lacks), advice=MORE_MEMORY, bytes_needed=needed)
    return ended


def _report_bytes(lease: Lease, found: dict[str, Any]) -> None:
    done, total = found.get("bytes_done"), found.get("bytes_total")
    if isinstance(done, int) and isinstance(total, int):
        lease.report(done=done, total=total)


def remove_leftovers() -> int:
    """Remove working folders of recoveries that are ready, left by workers that were killed; return how many.

    Folders that a recovery needs to continue, or that another process writes to, stay.
    """
    folder = Path(settings.WEIGHTS_ROOT) / "recoveries"
    left: dict[int, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        number = path.name.removesuffix(".partial")
        if path.is_dir() and number.isascii() and number.isdigit():
            left.setdefault(int(number), []).append(path)
    ready = Recovery.objects.filter(pk__in=left, state=RecoveryState.READY).values_list("pk", flat=True)
    removed = 0
    for pk in ready:
        lock = os.open(folder / f"{pk}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if _try_lock(lock, fcntl.LOCK_EX):
                for path in left[pk]:
                    shutil.rmtree(path, ignore_errors=True)
                removed += len(left[pk])
        finally:
            os.close(lock)
    return removed
