"""How work on a recovery ends without weights: in one state and one sentence, told to whoever waits."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from celery.exceptions import SoftTimeLimitExceeded
from django.db.models import QuerySet
from django.db.models.functions import Now

from access_requests.errors import RuleError
from access_requests.services.audit import append_event, recorded
from model_ops.enums import RecoveryState
from model_ops.models import Recovery
from model_ops.services.copying import SourceChanged
from model_ops.services.delivering import tell_ended

log = logging.getLogger(__name__)


class RunFailed(Exception):
    """The run made nothing; the message is one sentence for the owner."""

    state = RecoveryState.FAILED


class RunRefused(RunFailed):
    """Seen before a byte was written."""

    state = RecoveryState.REFUSED


class LeaseLost(Exception):
    """Another worker has the row, or it was cancelled: stop, and write nothing."""


@contextlib.contextmanager
def ending(
    name: str, *, end: Callable[[RecoveryState, str], object], give_back: Callable[[], object]
) -> Iterator[None]:
    """Calls `end` with state and sentence for whatever goes wrong; `give_back` where the worker itself is stopped."""
    try:
        yield
    except LeaseLost:
        log.warning("%s was cancelled, or is another worker's now", name)
        give_back()
    except RunFailed as failure:
        end(failure.state, str(failure))
    except RuleError as refusal:
        end(RecoveryState.REFUSED, refusal.sentence)
    except SourceChanged as changed:
        end(RecoveryState.FAILED, str(changed))
    except OSError as error:
        what = f" ({error.filename})" if error.filename else ""
        why = f"The weights could not be written or read{what}: {error.strerror or error}; put that right and try again."
        end(RecoveryState.FAILED, why)
    except SoftTimeLimitExceeded:
        why = "The run took more than a day and was stopped: what is finished is kept, try again to go on."
        end(RecoveryState.FAILED, why)
    except Exception:
        log.exception("%s", name)
        why = "The portal failed in an unforeseen way: the worker's log says more; try again after looking there."
        end(RecoveryState.FAILED, why)
    except BaseException:
        give_back()
        raise


def end_badly(*, held: QuerySet[Recovery], state: RecoveryState, sentence: str) -> bool:
    """Failed or refused, its owners and the waiting told, in one commit; nothing of it is visible.

    False, and nothing is written, where `held` does not find the recovery any more.
    """
    with recorded():
        recovery = held.select_for_update(no_key=True, of=("self",)).first()
        if recovery is None:
            return False
        log.error("Recovery %s %s: %s", recovery.pk, state, sentence)
        held.update(
            state=state, error=sentence, finished_at=Now(), lease_owner="", lease_until=None, stage=""
        )
        recovery.refresh_from_db()
        data = {"recovery": recovery.pk, "attempt": recovery.attempts, "error": sentence}
        for weights in recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id"):
            append_event(kind=f"recovery.{state}", model=weights.model, data=data)
        tell_ended(recovery=recovery)
    return True
