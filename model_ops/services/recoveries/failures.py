"""Stop work on a recovery without weights: let it wait, or end it with one state and one sentence for those who wait."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.db.models.functions import Now

from access_requests.errors import RuleError
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.leases import FREE
from model_ops.enums import RecoveryState, WaitsFor
from model_ops.models import Recovery
from model_ops.services.recoveries.copy_files import SourceChanged
from model_ops.services.recoveries.deliver import tell_ended
from model_ops.services.recoveries.leases import NOT_WAITING

log = logging.getLogger(__name__)

# What is missing for now, by the number of the error: disk space or quota, memory, or a remote file system.
MISSING_FOR_NOW: dict[int | None, WaitsFor] = {
    errno.ENOSPC: WaitsFor.ROOM,
    errno.EDQUOT: WaitsFor.ROOM,
    errno.ENOMEM: WaitsFor.MEMORY,
    errno.ESTALE: WaitsFor.STORE,
    errno.ENOTCONN: WaitsFor.STORE,
    errno.ETIMEDOUT: WaitsFor.STORE,
    errno.EHOSTDOWN: WaitsFor.STORE,
    errno.EHOSTUNREACH: WaitsFor.STORE,
}
MORE_MEMORY = "Give the worker more memory, then try again."
UNFORESEEN = "The portal failed unexpectedly. Check the worker's log, then try again."


class RunFailed(Exception):
    """The run failed; the message is one sentence for the owner."""

    state = RecoveryState.FAILED


class RunRefused(RunFailed):
    """The inputs were refused before a byte was written."""

    state = RecoveryState.REFUSED


class RunWaits(Exception):
    """The run failed for now and can be tried later; the message is one sentence for the owner.

    `advice` is what an owner can do. `bytes_needed` are free bytes (0 if unknown), and `seconds` is the pause that a
    remote asks for.
    """

    def __init__(
        self,
        waits_for: WaitsFor,
        sentence: str = "",
        *,
        advice: str = "",
        bytes_needed: int = 0,
        seconds: int = 0,
    ) -> None:
        super().__init__(sentence)
        self.waits_for, self.advice = waits_for, advice
        self.bytes_needed, self.seconds = bytes_needed, seconds


TOOK_TOO_LONG = RunWaits(WaitsFor.AGAIN, "The run took more than a day and was stopped.")
NO_DATABASE = RunWaits(
    WaitsFor.AGAIN,
    "The portal's database did not answer.",
    advice="Make sure that the database answers, then try again.",
)


class LeaseLost(Exception):
    """Another worker has the row, or it was cancelled: stop, and write nothing."""


@contextlib.contextmanager
def ending(
    name: str,
    *,
    end: Callable[[RecoveryState, str], object],
    wait: Callable[[RunWaits], object],
    give_back: Callable[[], object],
) -> Iterator[None]:
    """Call `end` with state and sentence if something goes wrong, or `wait` if it can work later.

    `give_back` is called if the worker itself is stopped.
    """
    try:
        yield
    except LeaseLost:
        log.warning("%s was cancelled, or is another worker's now", name)
        give_back()
    except RunWaits as why:
        wait(why)
    except RunFailed as failure:
        end(failure.state, str(failure))
    except RuleError as refusal:
        end(RecoveryState.REFUSED, refusal.sentence)
    except SourceChanged as changed:
        end(RecoveryState.FAILED, str(changed))
    except OSError as error:
        _wait_or_end(error, end, wait)
    except (SoftTimeLimitExceeded, OperationalError, InterfaceError) as error:
        log.warning("%s was stopped: %s", name, error)
        wait(TOOK_TOO_LONG if isinstance(error, SoftTimeLimitExceeded) else NO_DATABASE)
    except Exception:
        log.exception("%s", name)
        end(RecoveryState.FAILED, UNFORESEEN)
    except BaseException:
        give_back()
        raise


def _wait_or_end(
    error: OSError, end: Callable[[RecoveryState, str], object], wait: Callable[[RunWaits], object]
) -> None:
    if (waits_for := MISSING_FOR_NOW.get(error.errno)) is not None:
        wait(RunWaits(waits_for, advice=MORE_MEMORY))
        return
    what = f" ({error.filename})" if error.filename else ""
    why = (
        f"The weights could not be written or read{what}: {error.strerror or error}. Fix that and try again."
    )
    end(RecoveryState.FAILED, why)


def end_badly(*, held: QuerySet[Recovery], state: RecoveryState, sentence: str) -> bool:
    """End a recovery as failed or refused and email its owners and those who wait, in one transaction.

    Return False and write nothing if `held` no longer finds the recovery.
    """
    with recorded():
        recovery = held.select_for_update(no_key=True, of=("self",)).first()
        if recovery is None:
            return False
        log.error("Recovery %s %s: %s", recovery.pk, state, sentence)
        held.update(
            state=state,
            error=sentence,
            finished_at=Now(),
            **FREE,
            stage="",
            **NOT_WAITING,
        )
        recovery.refresh_from_db()
        data = {"recovery": recovery.pk, "attempt": recovery.attempts, "error": sentence}
        for weights in recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id"):
            append_event(kind=f"recovery.{state}", model=weights.model, data=data)
        tell_ended(recovery=recovery)
    return True
