"""What every worker on a recovery needs: its folder, the lock on it, and a child process that does the work."""

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
TOGETHER = 1.0  # seconds; a worker that is being killed together with its child does not get past them
LOCK_PAUSE = 0.5  # seconds


def output_folder(recovery: Recovery) -> Path:
    """Where the engine writes; its unfinished work lies beside it, in `ID.partial`."""
    return Path(settings.WEIGHTS_ROOT) / "recoveries" / str(recovery.pk)


@contextlib.contextmanager
def writing(output: Path, lease: Lease, *, shared: bool = False) -> Iterator[int]:
    """Waits until no process of an earlier lease still writes there; the engine inherits the lock and holds it too.

    Those who make shards share it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(output.with_name(f"{output.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _locked(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if lease.lost.wait(LOCK_PAUSE):
                raise LeaseLost
        yield lock
    finally:
        os.close(lock)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_engine(arguments: list[str], lease: Lease, *, lock: int) -> None:
    """Run the engine to its end; what it refuses or fails over is raised in its own words."""
    ended = run_for(arguments, lease, pass_fds=(lock,))
    if ended.status == Refusal.exit_status:
        raise RunRefused(ended.last_words or "The engine refused the inputs without saying why.")
    if ended.status:
        raise RunFailed(
            ended.last_words or f"The engine ended with status {ended.status} without saying why."
        )


def run_for(arguments: list[str], lease: Lease, **options: Any) -> Ended:
    """Run a child to its end. Raises RunWaits where the system killed it, or where it lacked what may be there later."""
    ended = run_child(
        arguments=arguments, on_progress=lambda found: _report(lease, found), stop=lease.lost, **options
    )
    if ended.stopped:
        raise LeaseLost
    if ended.status < 0:
        log.warning("%s was killed by signal %s", arguments[1], -ended.status)
        if lease.lost.wait(TOGETHER):
            raise LeaseLost
        raise RunWaits(WaitsFor.AGAIN, _killed(-ended.status), advice=MORE_MEMORY)
    if ended.status and (lacks := ended.result.get("lacks")) in WaitsFor.values:
        log.warning("%s lacks %s: %s", arguments[1], lacks, ended.last_words)
        raise _waits(WaitsFor(lacks), ended)
    return ended


def _killed(signal: int) -> str:
    cause = ", most likely because memory ran out" if signal == SIGKILL else ""
    return f"The system ended the run (signal {signal}){cause}."


def _waits(lacks: WaitsFor, ended: Ended) -> RunWaits:
    """What a child lacked, in words for a page: its own are those of a command line, and end with what to do there."""
    if lacks == WaitsFor.DEVICE:
        failed = ended.last_words.partition(";")[0]
        return RunWaits(lacks, f"{failed}.", advice="Check the GPU, then try again.")
    if lacks == WaitsFor.REMOTE:
        said = ended.last_words.rpartition(": ")[0] or ended.last_words
        return RunWaits(
            lacks, f"{said}. It will be tried again.", seconds=int(ended.result.get("seconds", 0))
        )
    return RunWaits(lacks, advice=MORE_MEMORY, bytes_needed=int(ended.result.get("bytes_needed", 0)))


def _report(lease: Lease, found: dict[str, Any]) -> None:
    done, total = found.get("bytes_done"), found.get("bytes_total")
    if isinstance(done, int) and isinstance(total, int):
        lease.report(done=done, total=total)


def remove_leftovers() -> int:
    """Remove working folders of recoveries that are ready, left by workers that were killed; return how many.

    What a recovery needs to go on with stays, as does what another process still writes to.
    """
    folder = Path(settings.WEIGHTS_ROOT) / "recoveries"
    left: dict[int, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        number = path.name.removesuffix(".partial")
        if path.is_dir() and number.isascii() and number.isdigit():
            left.setdefault(int(number), []).append(path)
    ready = Recovery.objects.filter(pk__in=left, state=RecoveryState.READY).values_list("pk", flat=True)
    return sum(_remove(left[number], folder / f"{number}.lock") for number in ready)


def _remove(folders: list[Path], lock_file: Path) -> int:
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _locked(lock, fcntl.LOCK_EX):
            return 0
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)
        return len(folders)
    finally:
        os.close(lock)
