"""Run a test prompt on newly published weights and show the answer to owners and reviewers only."""

from __future__ import annotations

import errno
import importlib.util
import logging
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.errors import Conflict
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.leases import from_now
from access_requests.services.queue import enqueue_on_commit
from access_requests.storable_text import replace_unstorable
from model_ops.enums import Method, RecoveryState, SmokeState
from model_ops.models import Recovery, SmokeRun
from model_ops.recovery.errors import Refusal
from model_ops.services.recoveries.child_process import Ended, run_child
from model_ops.services.recoveries.leases import with_database
from model_ops.services.revisions.publish import recovered_files
from model_ops.services.store.blobs import blob_path

if TYPE_CHECKING:
    from portal.accounts.models import User

log = logging.getLogger(__name__)

SMOKE_RECOVERY = "model_ops.tasks.smoke_recovery"
LIMIT = 600.0  # seconds for loading and answering
SPARE = timedelta(minutes=2)  # extra seconds for preparing files before it and storing the answer after it
NOT_INSTALLED = "transformers is not installed on this worker, so the test prompt did not run."
NO_ROOM = "The portal's disk is full. The test prompt runs when there is room."
NO_ROOM_PAUSE = timedelta(minutes=5)
MOST_LETTERS = 20_000  # of a text that is kept
KEPT = ("prompt", "answer", "tokens", "seconds", "device", "dtype", "finite", "template", "hints")


def is_installed() -> bool:
    """Return whether transformers is installed for this Python; nothing is imported."""
    return importlib.util.find_spec("transformers") is not None


def can_be_asked(recovery: Recovery) -> bool:
    """Return whether the engine made these weights and they exist; weights published as they came are not tested."""
    made = recovery.method == Method.RECOVER and recovery.state == RecoveryState.READY
    return made and settings.GATEHOUSE_SMOKE


def expect_answer(*, recovery: Recovery) -> None:
    """Request a test of new weights, in the transaction that publishes them; a free worker runs it if it can."""
    if can_be_asked(recovery) and is_installed():
        _request_run(recovery)


def ask_again(*, recovery: Recovery, actor: User | None = None) -> SmokeRun:
    """Test finished weights again and drop the earlier answer."""
    with recorded():
        recovery = Recovery.objects.select_for_update(no_key=True, of=("self",)).get(pk=recovery.pk)
        if not can_be_asked(recovery):
            raise Conflict(
                _("Recovery %(recovery)s has no weights that can be tested here.") % {"recovery": recovery.pk}
            )
        if SmokeRun.objects.filter(recovery=recovery, state=SmokeState.RUNNING, ends_by__gt=Now()).exists():
            raise Conflict(
                _("The weights of recovery %(recovery)s are already being tested.")
                % {"recovery": recovery.pk}
            )
        run = _request_run(recovery)
        _append_for_each(recovery, "recovery.smoke_wanted", {}, actor)
    return run


def _request_run(recovery: Recovery) -> SmokeRun:
    unasked: dict[str, Any] = {
        "ends_by": None, "finished_at": None, "retry_at": None, "answer": {}, "error": "",
    }  # fmt: skip
    run, _created = SmokeRun.objects.update_or_create(
        recovery=recovery, defaults={"state": SmokeState.WAITING, "wanted_at": timezone.now(), **unasked}
    )
    enqueue_on_commit(SMOKE_RECOVERY, recovery.pk)
    return run


def _append_for_each(recovery: Recovery, kind: str, data: dict[str, Any], actor: User | None = None) -> None:
    """Append an event for each model with these weights."""
    for weights in recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id"):
        append_event(kind=kind, actor=actor, model=weights.model, data={"recovery": recovery.pk, **data})


def waiting() -> Q:
    """Return runs for a worker. Interrupted ones are left out: what ended one worker may end the next."""
    return Q(Q(retry_at=None) | Q(retry_at__lte=Now()), state=SmokeState.WAITING)


def smoke_recovery(*, recovery_id: int, limit: float = LIMIT) -> None:
    """Run the test prompt and store the answer; do nothing if another worker has it.

    A shutdown gives the row back at once. If the worker is killed, the run stays interrupted until someone asks again.
    """
    waits = SmokeRun.objects.filter(waiting(), recovery_id=recovery_id)
    if not waits.update(state=SmokeState.RUNNING, ends_by=from_now(timedelta(seconds=limit) + SPARE)):
        return
    ends_by = SmokeRun.objects.get(recovery_id=recovery_id).ends_by  # it also identifies this run
    if ends_by is None:
        return
    held = SmokeRun.objects.filter(recovery_id=recovery_id, state=SmokeState.RUNNING, ends_by=ends_by)
    try:
        state, fields = _ask_prompt(Recovery.objects.get(pk=recovery_id), limit)
    except Exception:
        log.exception("Smoke run of recovery %s", recovery_id)
        why = "The portal failed unexpectedly. Check the worker's log, then run the test prompt again."
        state, fields = SmokeState.FAILED, {"error": why}
    except BaseException:
        held.update(state=SmokeState.WAITING, ends_by=None)
        raise
    with_database(lambda: _write_down(held, recovery_id, state, fields), give_up=threading.Event())


def _ask_prompt(recovery: Recovery, limit: float) -> tuple[SmokeState, dict[str, Any]]:
    if not is_installed():
        return SmokeState.REFUSED, {"error": NOT_INSTALLED}
    folder = Path(settings.WEIGHTS_ROOT) / "recoveries" / f"{recovery.pk}.smoke"
    stop = threading.Event()
    clock = threading.Timer(limit, stop.set)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in recovered_files(recovery):  # under their names, as links to their contents in the store
            (folder / file.path).hardlink_to(blob_path(file.sha256))
        clock.start()
        ended = run_child(
            arguments=["-m", "model_ops.recovery", "smoke", str(folder), "--json"],
            on_progress=lambda _progress: None,
            stop=stop,
        )
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return SmokeState.WAITING, {"error": NO_ROOM, "retry_at": timezone.now() + NO_ROOM_PAUSE}
        where = f" ({error.filename})" if error.filename else ""
        return SmokeState.FAILED, {"error": f"The weights could not be prepared{where}: {error.strerror}."}
    finally:
        clock.cancel()
        shutil.rmtree(folder, ignore_errors=True)
    return read_outcome(ended, limit)


def read_outcome(ended: Ended, limit: float) -> tuple[SmokeState, dict[str, Any]]:
    """Return (state, fields to store) for an engine that had `limit` seconds."""
    answer = {name: _storable_value(ended.result[name]) for name in KEPT if name in ended.result}
    if ended.stopped:
        return SmokeState.FAILED, {"error": f"There was no answer within {limit:g} seconds."}
    if ended.status < 0:
        why = (
            f"The run was killed by the system (signal {-ended.status}), most likely because memory ran out."
        )
        return SmokeState.FAILED, {"error": why}
    if ended.status:
        state = SmokeState.REFUSED if ended.status == Refusal.exit_status else SmokeState.FAILED
        return state, {"error": ended.last_words or f"It ended with status {ended.status}.", "answer": answer}
    return SmokeState.ANSWERED, {"answer": answer}


def _storable_value(value: Any) -> Any:
    """Return texts that PostgreSQL accepts: a model may answer anything, even a zero byte."""
    if isinstance(value, str):
        return replace_unstorable(value[:MOST_LETTERS])
    if isinstance(value, list):
        return [_storable_value(one) for one in value]
    return value


def _write_down(held: Any, recovery_id: int, state: SmokeState, fields: dict[str, Any]) -> None:
    """Store the answer in one transaction, unless the run was taken away in the meantime."""
    with recorded():
        whole = {"answer": {}, "error": "", "retry_at": None, **fields}
        finished_at = None if state == SmokeState.WAITING else Now()
        written = held.update(state=state, ends_by=None, finished_at=finished_at, **whole)
        if written and finished_at:
            _append_for_each(Recovery.objects.get(pk=recovery_id), "recovery.smoked", {"outcome": state})
