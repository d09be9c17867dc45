"""What every worker on a recovery needs: its folder, the lock on it, and a child process that does the work."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from model_ops.models import Recovery
from model_ops.services.child import Ended, run_child
from model_ops.services.ends import LeaseLost, RunFailed, RunRefused
from model_ops.services.leases import Lease

log = logging.getLogger(__name__)

REFUSED = 2  # the engine's exit status for what headers, sizes and indexes show
KILLED_TRIES = 2  # a child killed by the system gets one more try; the second time it is no accident
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
    """Runs the engine to its end; what it refuses or fails over is raised in its own words."""
    ended = run_for(arguments, lease, pass_fds=(lock,))
    if ended.status == REFUSED:
        raise RunRefused(ended.last_words or "The engine refused the inputs without saying why.")
    if ended.status:
        raise RunFailed(
            ended.last_words or f"The engine ended with status {ended.status} without saying why."
        )


def run_for(arguments: list[str], lease: Lease, **options: Any) -> Ended:
    """Runs a child to its end; one that the system killed gets a second try, since its finished work is kept."""
    for _ in range(KILLED_TRIES):
        ended = run_child(
            arguments=arguments,
            on_progress=lambda found: _report(lease, found),
            stop=lease.lost,
            **options,
        )
        if ended.stopped:
            raise LeaseLost
        if ended.status >= 0:
            return ended
        log.warning("%s was killed by signal %s", arguments[1], -ended.status)
        time.sleep(1)  # a worker that is being killed together with its child does not get past this
    raise RunFailed(
        f"The run was killed by the system twice (signal {-ended.status}), most likely for want of memory: "
        "give the worker more memory and try again."
    )


def _report(lease: Lease, found: dict[str, Any]) -> None:
    done, total = found.get("bytes_done"), found.get("bytes_total")
    if isinstance(done, int) and isinstance(total, int):
        lease.report(done=done, total=total)
