"""Who works on a row: claimed by compare-and-swap, kept by renewing, lost to the next worker that claims it."""

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
# The fields of a recovery that has not had to wait, or need not any more.
NOT_WAITING: dict[str, Any] = {
    "waiting_for": "", "waiting_since": None, "retry_at": None, "tries": 0, "bytes_kept": 0, "bytes_needed": 0,
}  # fmt: skip
# Of a row that is claimed: one that runs has lost its worker.
TRIES = Case(When(state=RUNNING, then=F("tries") + 1), default=F("tries"), output_field=IntegerField())
Result = TypeVar("Result")


def due() -> Q:
    """Recoveries to begin: wanted, planned and waiting for nothing, or running under a lease that nobody renewed."""
    return Q(state=RecoveryState.PLANNED, wanted_at__isnull=False, waiting_for="") | Q(
        state=RecoveryState.RUNNING, lease_until__lt=Now(), run_id=""
    )


def died() -> Q:
    """Rows whose worker died with its run, and not for the first time: another run at once would most likely end so, too."""
    return Q(state=RUNNING, lease_until__lt=Now(), tries__gt=0)


def due_to_finish() -> Q:
    """Spread recoveries whose shards are all made, and whose end nobody has in hand."""
    left = RecoveryShard.objects.filter(recovery=OuterRef("pk")).exclude(state=ShardState.DONE)
    return Q(~Exists(left), ~Q(run_id=""), state=RecoveryState.RUNNING, lease_until__lt=Now())


def due_shards() -> Q:
    """Shards of running recoveries that are planned and wait for nothing, or held under a lease that nobody renewed."""
    expired = Q(state=ShardState.RUNNING, lease_until__lt=Now())
    return Q(is_spread()) & (Q(state=ShardState.PLANNED, waiting_for="") | expired)


def is_spread() -> Exists:
    """Of a shard: its recovery runs, spread over workers. What was cancelled or failed is not."""
    running = Recovery.objects.filter(pk=OuterRef("recovery"), state=RecoveryState.RUNNING)
    return Exists(running.exclude(run_id=""))


def claim(*, recovery_id: int) -> str | None:
    """Makes the row ours and returns the lease's random name; None when another worker has it or nothing is due.

    Where a worker died with the row, that counts as a try.
    """
    return _claim(
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
    """As `claim`, of a spread recovery all of whose shards are made."""
    return _claim(Recovery.objects.filter(due_to_finish(), pk=recovery_id))


def claim_shard(*, shard_id: int, worker: str) -> str | None:
    """As `claim`, of one shard, for the worker of that name."""
    return _claim(
        RecoveryShard.objects.filter(due_shards(), pk=shard_id),
        attempts=F("attempts") + 1,
        tries=TRIES,
        worker=worker,
        error="",
        bytes_done=0,
    )


def hurry(*, recovery: Recovery) -> bool:
    """Try a recovery that waits, or its shards, at once, with all its tries before it; False where nothing waits."""
    rested: dict[str, Any] = {"waiting_for": "", "retry_at": None, "tries": 0}
    shards = RecoveryShard.objects.filter(recovery=recovery).exclude(waiting_for="").update(**rested)
    waits = Recovery.objects.filter(pk=recovery.pk).exclude(waiting_for="")
    return bool(waits.update(**rested, waiting_since=None, error="") or shards)


def _claim(rows: QuerySet[Any], **fields: Any) -> str | None:
    return leases.claim(rows, length=LEASE, state=RUNNING, **fields) or None


class Lease:
    """Renews a claim in a thread of its own and writes the progress along; `lost` is set when another holds it.

    `rows` finds the row as long as it may be worked on. A database that is away is waited for: nobody else can claim
    the row then either.
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
        self._thread = threading.Thread(target=self._renew, name=f"lease of {name}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def held(self) -> QuerySet[Any]:
        """The row, if it is still ours; every write of the worker goes through this filter."""
        return self._rows.all()

    def report(self, *, done: int, total: int) -> None:
        """Notes how far it is; written with the next renewal, at most once a second."""
        self._progress = {"bytes_done": done, "bytes_total": total}

    def write(self, **fields: Any) -> None:
        """Writes at once, waiting for the database; what was reported before counts no more."""
        self._progress = {}
        with_database(lambda: self.held().update(**fields), give_up=self.lost)

    def _renew(self) -> None:
        written, wrote_at = self._progress, time.monotonic()
        try:
            while not self._ended.wait(LOOK_AFTER) and not self.lost.is_set():
                progress, since = self._progress, time.monotonic() - wrote_at
                if since < (RENEW_AFTER if progress is written else PROGRESS_AFTER):
                    self._still(self.held().exists)
                elif self._still(lambda progress=progress: self._write(progress)):  # type: ignore[misc]
                    written, wrote_at = progress, time.monotonic()
        finally:
            connection.close()

    def _write(self, progress: dict[str, Any]) -> int:
        """Renews and writes; then what goes with it, such as the sum over all shards."""
        written = self.held().update(lease_until=leases.from_now(LEASE), **progress)
        if written and progress and self._also:
            self._also()
        return written

    def _still(self, ours: Callable[[], Any]) -> bool:
        """Notes when the row is no longer ours, within a second of it; False when the database was not there to say so."""
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
    """Runs `write` until the database answers; None once `give_up` is set, for then the row is another's."""
    while not give_up.is_set():
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            log.warning("The database is away, trying again: %s", error)
            connection.close()
            time.sleep(1)
    return None
