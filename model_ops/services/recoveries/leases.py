"""Lease rows to workers: claim by compare-and-swap, keep by renewing, lose to the next worker that claims it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.db.models import (
    Case,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    When,
)
from django.db.models.functions import Coalesce, Now

from access_requests.services import leases
from model_ops.enums import RecoveryState, ShardState
from model_ops.models import Recovery, RecoveryShard

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
LOOK_AFTER = 0.5  # seconds
PROGRESS_AFTER = 1.0  # seconds; never more than one write a second
RENEW_AFTER = 4.0  # seconds
RUNNING = "running"  # in both tables
# The fields of a recovery that does not wait.
NOT_WAITING: dict[str, Any] = {
    "waiting_for": "", "waiting_since": None, "retry_at": None, "tries": 0, "bytes_kept": 0, "bytes_needed": 0,
}  # fmt: skip
# For a row that is claimed: a running one has lost its worker.
TRIES = Case(When(state=RUNNING, then=F("tries") + 1), default=F("tries"), output_field=IntegerField())
Result = TypeVar("Result")


def due() -> Q:
    """Return recoveries to start: wanted, planned and not waiting, or running with an expired lease."""
    return Q(state=RecoveryState.PLANNED, wanted_at__isnull=False, waiting_for="") | Q(
        state=RecoveryState.RUNNING, lease_until__lt=Now(), run_id=""
    )


def died() -> Q:
    """Return rows whose worker has died more than once: another run at once would most likely end the same way."""
    return Q(state=RUNNING, lease_until__lt=Now(), tries__gt=0)


def due_to_finish() -> Q:
    """Return spread recoveries whose shards are all made and whose end is not claimed."""
    left = RecoveryShard.objects.filter(recovery=OuterRef("pk")).exclude(state=ShardState.DONE)
    return Q(~Exists(left), ~Q(run_id=""), state=RecoveryState.RUNNING, lease_until__lt=Now())


def due_shards() -> Q:
    """Return shards of running recoveries that are planned and not waiting, or have an expired lease."""
    expired = Q(state=ShardState.RUNNING, lease_until__lt=Now())
    return Q(is_spread()) & (Q(state=ShardState.PLANNED, waiting_for="") | expired)


def is_spread() -> Exists:
    """Return a filter for shards whose recovery runs, spread over workers, and was not cancelled and has not failed."""
    running = Recovery.objects.filter(pk=OuterRef("recovery"), state=RecoveryState.RUNNING)
    return Exists(running.exclude(run_id=""))


def claim(*, recovery_id: int) -> str | None:
    """Claim the row and return the lease's random name; None if another worker has it or nothing is due.

    If a worker died with the row, that counts as a try.
    """
    return _claim_row(
        Recovery.objects.filter(due(), pk=recovery_id),
        run_id="",
        attempts=F("attempts") + 1,
        tries=TRIES,
        started_at=Coalesce(F("started_at"), Now()),
        finished_at=None,
        error="",
        bytes_done=0,
    )


def claim_finishing(*, recovery_id: int) -> str | None:
    """Claim a spread recovery whose shards are all made, like `claim`."""
    return _claim_row(Recovery.objects.filter(due_to_finish(), pk=recovery_id))


def claim_shard(*, shard_id: int, worker: str) -> str | None:
    """Claim one shard for the worker with that name, like `claim`."""
    return _claim_row(
        RecoveryShard.objects.filter(due_shards(), pk=shard_id),
        attempts=F("attempts") + 1,
        tries=TRIES,
        worker=worker,
        error="",
        bytes_done=0,
    )


def hurry(*, recovery: Recovery) -> bool:
    """Let a waiting recovery or its shards run at once, with all tries reset; return False if nothing waits."""
    rested: dict[str, Any] = {"waiting_for": "", "retry_at": None, "tries": 0}
    shards = RecoveryShard.objects.filter(recovery=recovery).exclude(waiting_for="").update(**rested)
    waits = Recovery.objects.filter(pk=recovery.pk).exclude(waiting_for="")
    return bool(waits.update(**rested, waiting_since=None, error="") or shards)


def _claim_row(rows: QuerySet[Any], **fields: Any) -> str | None:
    return leases.claim(rows, length=LEASE, state=RUNNING, **fields) or None


class Lease:
    """Renew a claim in a thread and write the progress with it; `lost` is set if another worker has the row.

    `rows` finds the row while it may be worked on. If the database is away, wait for it: no one else can claim the row
    either.
    """

    def __init__(
        self, rows: QuerySet[Any], owner: str, *, also: Callable[[], object] | None = None, name: str = ""
    ) -> None:
        self.name = name
        self.lost = threading.Event()
        self._rows = rows.filter(state=RUNNING, lease_owner=owner)
        self._also = also
        self._ended = threading.Event()
        self._progress: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._keep_renewing, name=f"lease of {name}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def held(self) -> QuerySet[Any]:
        """Return the row if it is still ours; every write of the worker uses this filter."""
        return self._rows.all()

    def report(self, *, done: int, total: int) -> None:
        """Record the progress; it is written with the next renewal, at most once a second."""
        self._progress = {"bytes_done": done, "bytes_total": total}

    def write(self, **fields: Any) -> None:
        """Write at once, and wait for the database; earlier reported progress is dropped."""
        self._progress = {}
        with_database(lambda: self.held().update(**fields), give_up=self.lost)

    def _keep_renewing(self) -> None:
        written, wrote_at = self._progress, time.monotonic()
        try:
            while not self._ended.wait(LOOK_AFTER) and not self.lost.is_set():
                progress, since = self._progress, time.monotonic() - wrote_at
                if since < (RENEW_AFTER if progress is written else PROGRESS_AFTER):
                    self._check_held(self.held().exists)
                elif self._check_held(lambda progress=progress: self._renew_with(progress)):  # type: ignore[misc]
                    written, wrote_at = progress, time.monotonic()
        finally:
            connection.close()

    def _renew_with(self, progress: dict[str, Any]) -> int:
        """Renew and write, then do what goes with it, such as adding up all shards."""
        written = self.held().update(lease_until=leases.from_now(LEASE), **progress)
        if written and progress and self._also:
            self._also()
        return written

    def _check_held(self, ours: Callable[[], Any]) -> bool:
        """Check within a second whether the row is still ours; return False if the database is away."""
        try:
            close_old_connections()
            if not ours():
                self.lost.set()
        except (OperationalError, InterfaceError) as error:
            log.warning("Lease of %s not checked, database away: %s", self.name, error)
            connection.close()
            return False
        return True


def with_database(write: Callable[[], Result], *, give_up: threading.Event) -> Result | None:
    """Run `write` until the database answers; return None if `give_up` is set, since the row then belongs to another."""
    while not give_up.is_set():
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            log.warning("The database is away, trying again: %s", error)
            connection.close()
            time.sleep(1)
    return None
