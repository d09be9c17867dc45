"""Who works on a recovery: claimed by compare-and-swap on its row, kept by renewing, lost to whoever claims next."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.db.models import DateTimeField, ExpressionWrapper, F, Q
from django.db.models.functions import Coalesce, Now

from model_ops.enums import RecoveryState
from model_ops.models import Recovery

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
RENEW_AFTER = 4.0  # seconds
PROGRESS_AFTER = 1.0  # seconds; never more than one write a second
Result = TypeVar("Result")


def _lease_end() -> ExpressionWrapper[Any]:
    """By the database's clock, which all workers share."""
    return ExpressionWrapper(Now() + LEASE, output_field=DateTimeField())


def due() -> Q:
    """What a worker may take: wanted and planned, or running under a lease that nobody renewed."""
    return Q(state=RecoveryState.PLANNED, wanted_at__isnull=False) | Q(
        state=RecoveryState.RUNNING, lease_until__lt=Now()
    )


def claim(*, recovery_id: int) -> str | None:
    """Makes the row ours and returns the lease's random name; None when another worker has it or nothing is due."""
    owner = secrets.token_hex(16)
    claimed = Recovery.objects.filter(due(), pk=recovery_id).update(
        state=RecoveryState.RUNNING,
        lease_owner=owner,
        lease_until=_lease_end(),
        attempts=F("attempts") + 1,
        started_at=Coalesce(F("started_at"), Now()),
        finished_at=None,
        error="",
        bytes_done=0,
    )
    return owner if claimed else None


class Lease:
    """Renews a claim in a thread of its own and writes the progress along; `lost` is set when another holds it.

    A database that is away is waited for: nobody else can claim the row then either.
    """

    def __init__(self, recovery_id: int, owner: str) -> None:
        self.recovery_id = recovery_id
        self.owner = owner
        self.lost = threading.Event()
        self._ended = threading.Event()
        self._progress: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._renew, name=f"lease-{recovery_id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def held(self) -> Any:
        """The row, if it is still ours; every write of the worker goes through this filter."""
        return Recovery.objects.filter(
            pk=self.recovery_id, state=RecoveryState.RUNNING, lease_owner=self.owner
        )

    def report(self, *, done: int, total: int) -> None:
        """Notes how far it is; written with the next renewal, at most once a second."""
        self._progress = {"bytes_done": done, "bytes_total": total}

    def enter_stage(self, stage: str, *, keep_progress: bool = False) -> None:
        """Names what is done now; progress starts anew, unless this is the last touch to what is done."""
        self._progress = {}
        fields = {"stage": stage} | ({} if keep_progress else {"bytes_done": 0, "bytes_total": 0})
        with_database(lambda: self.held().update(**fields), give_up=self.lost)

    def _renew(self) -> None:
        written, renewed = self._progress, time.monotonic()
        try:
            while not self._ended.wait(PROGRESS_AFTER) and not self.lost.is_set():
                progress = self._progress
                if progress is written and time.monotonic() - renewed < RENEW_AFTER:
                    self._look()
                    continue
                if self._write(progress):
                    written, renewed = progress, time.monotonic()
        finally:
            connection.close()

    def _write(self, progress: dict[str, Any]) -> bool:
        return self._still(lambda: self.held().update(lease_until=_lease_end(), **progress))

    def _look(self) -> None:
        """Between renewals: a cancelled run ends within about a second, whether or not it makes progress."""
        self._still(self.held().exists)

    def _still(self, ours: Callable[[], Any]) -> bool:
        """Notes when the row is no longer ours; False when the database was not there to say so."""
        try:
            close_old_connections()
            if not ours():
                self.lost.set()
        except (OperationalError, InterfaceError) as error:
            log.warning("Lease of recovery %s not checked, database away: %s", self.recovery_id, error)
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
