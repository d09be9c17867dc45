"""One run of a recovery, from the claim to the published revision."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db.models.functions import Now

from access_requests.errors import RuleError
from access_requests.services.audit import append_event, recorded
from model_ops import hubfetch
from model_ops.enums import Method, RecoveryState, SourceKind
from model_ops.models import Recovery, WeightSource
from model_ops.services.blobs import is_stored, store_file
from model_ops.services.child import Ended, run_child
from model_ops.services.copying import SourceChanged, copy_files
from model_ops.services.delivering import tell_ended
from model_ops.services.engine import read_result, recover_arguments
from model_ops.services.leases import Lease, claim, with_database
from model_ops.services.publishing import publish_revision, recovered_files
from model_ops.services.repository import StoredFile
from model_ops.services.smoking import expect_answer
from model_ops.services.sources import check_unchanged, fetched_folder, hub_token
from model_ops.services.weights import make_plan

log = logging.getLogger(__name__)

REFUSED = 2  # the engine's exit status for what headers, sizes and indexes show
KILLED_TRIES = 2  # a child killed by the system gets one more try; the second time it is no accident
LOCK_PAUSE = 0.5  # seconds


class RunFailed(Exception):
    """The run made nothing; the message is one sentence for the owner."""

    state = RecoveryState.FAILED


class RunRefused(RunFailed):
    """Seen before a byte was written."""

    state = RecoveryState.REFUSED


class LeaseLost(Exception):
    """Another worker has the row, or it was cancelled: stop, and write nothing."""


def run_recovery(*, recovery_id: int) -> None:
    """Claims the recovery and brings it to an end; does nothing where another worker has it.

    Interrupted by a shutdown it gives the row back at once; killed, the lease runs out and beat hands it on.
    """
    owner = claim(recovery_id=recovery_id)
    if owner is None:
        return
    with Lease(recovery_id, owner) as lease:
        try:
            _run(lease)
        except LeaseLost:
            log.warning("Recovery %s was cancelled, or is another worker's now", recovery_id)
        except RunFailed as failure:
            _end_badly(lease, failure.state, str(failure))
        except RuleError as refusal:
            _end_badly(lease, RecoveryState.REFUSED, refusal.sentence)
        except SourceChanged as changed:
            _end_badly(lease, RecoveryState.FAILED, str(changed))
        except OSError as error:
            what = f" ({error.filename})" if error.filename else ""
            why = f"The weights could not be written or read{what}: {error.strerror or error}; put that right and try again."
            _end_badly(lease, RecoveryState.FAILED, why)
        except SoftTimeLimitExceeded:
            why = (
                "The run took more than a day and was stopped: what is finished is kept, try again to go on."
            )
            _end_badly(lease, RecoveryState.FAILED, why)
        except Exception:
            log.exception("Recovery %s", recovery_id)
            why = "The portal failed in an unforeseen way: the worker's log says more; try again after looking there."
            _end_badly(lease, RecoveryState.FAILED, why)
        except BaseException:
            _give_back(lease)
            raise


def _run(lease: Lease) -> None:
    recovery = with_database(
        lambda: lease.held().select_related("base", "diff", "files").first(), give_up=lease.lost
    )
    if recovery is None:
        raise LeaseLost
    output = output_folder(recovery)
    with _one_writer(output, lease) as lock:
        if not _is_made(recovery, output):
            if recovered_files(recovery):  # made once, but not all of it is left: nothing here can be resumed
                shutil.rmtree(output, ignore_errors=True)
            _fetch(recovery, lease)
            _plan(recovery, lease)
            lease.enter_stage("recovering")
            files, facts = _make(recovery, output, lease, lock)
            _keep(lease, recovery, manifest={"files": [file.to_json() for file in files], "engine": facts})
        lease.enter_stage("publishing", keep_progress=True)
        _store(recovered_files(recovery), output)
        _publish(lease)
        shutil.rmtree(output, ignore_errors=True)


def output_folder(recovery: Recovery) -> Path:
    """Where the engine writes; its unfinished work lies beside it, in `ID.partial`."""
    return Path(settings.WEIGHTS_ROOT) / "recoveries" / str(recovery.pk)


def _is_made(recovery: Recovery, output: Path) -> bool:
    """True if an earlier run got as far as publishing and everything it made is still here."""
    files = recovered_files(recovery)
    return bool(files) and all(is_stored(file) or (output / file.path).is_file() for file in files)


@contextlib.contextmanager
def _one_writer(output: Path, lease: Lease) -> Iterator[int]:
    """Waits until no process of an earlier lease still writes there; the engine inherits the lock and holds it too."""
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(output.with_name(f"{output.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _locked(lock):
            if lease.lost.wait(LOCK_PAUSE):
                raise LeaseLost
        yield lock
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch(recovery: Recovery, lease: Lease) -> None:
    """Brings Hub repositories here; folders are checked to be what they were."""
    for source in filter(None, (recovery.base, recovery.diff, recovery.files)):
        if source.kind == SourceKind.FOLDER:
            check_unchanged(source)
        elif not fetched_folder(source).is_dir():
            lease.enter_stage("fetching")
            _fetch_repository(source, everything=recovery.method == Method.COPY, lease=lease)


def _fetch_repository(source: WeightSource, *, everything: bool, lease: Lease) -> None:
    folder = fetched_folder(source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["-m", "model_ops.hubfetch", source.endpoint, source.repo_id, source.commit, str(folder)]
    home = Path(settings.WEIGHTS_ROOT) / "sources" / ".hub"
    environment = {
        hubfetch.TOKEN: hub_token(source.endpoint) or "",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    ended = _child([*arguments, "all" if everything else "weights"], lease, environment=environment)
    if ended.status:
        raise RunFailed(ended.last_words or f"{source} could not be fetched: try again.")


def _plan(recovery: Recovery, lease: Lease) -> None:
    """Plans again, now that everything is here: what has changed since is refused before a byte is written."""
    inputs = {name: getattr(recovery, name) for name in ("method", "base", "diff", "files", "options")}
    plan = make_plan(inputs)
    if plan != recovery.plan:
        _keep(lease, recovery, plan=plan)


def _keep(lease: Lease, recovery: Recovery, **fields: Any) -> None:
    if not with_database(lambda: lease.held().update(**fields), give_up=lease.lost):
        raise LeaseLost
    for name, value in fields.items():
        setattr(recovery, name, value)


def _make(
    recovery: Recovery, output: Path, lease: Lease, lock: int
) -> tuple[list[StoredFile], dict[str, Any]]:
    if recovery.method == Method.COPY:
        return _copy(recovery, output, lease), {}
    return _recover(recovery, output, lease, lock)


def _recover(
    recovery: Recovery, output: Path, lease: Lease, lock: int
) -> tuple[list[StoredFile], dict[str, Any]]:
    assert recovery.base is not None and recovery.diff is not None  # noqa: S101, PT018 - the row's constraint says so
    arguments = recover_arguments(
        recovery=recovery,
        base=fetched_folder(recovery.base),
        diff=fetched_folder(recovery.diff),
        target=output,
    )
    ended = _child(arguments, lease, pass_fds=(lock,))
    if ended.status == REFUSED:
        raise RunRefused(ended.last_words or "The engine refused the inputs without saying why.")
    if ended.status:
        raise RunFailed(
            ended.last_words or f"The engine ended with status {ended.status} without saying why."
        )
    return read_result(output)


def _child(arguments: list[str], lease: Lease, **options: Any) -> Ended:
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


def _copy(recovery: Recovery, output: Path, lease: Lease) -> list[StoredFile]:
    assert recovery.files is not None  # noqa: S101 - the row's constraint says so

    def on_bytes(done: int, total: int) -> None:
        if lease.lost.is_set():
            raise LeaseLost
        lease.report(done=done, total=total)

    return copy_files(source=fetched_folder(recovery.files), target=output, on_bytes=on_bytes)


def _store(files: list[StoredFile], output: Path) -> None:
    for file in files:
        store_file(file=file, source=output / file.path)


def _publish(lease: Lease) -> None:
    """Ready, published for every model that waits, every waiting grant told: all of it, or nothing, in one commit."""

    def publish() -> bool:
        with recorded():
            recovery = lease.held().select_for_update(of=("self",)).first()
            if recovery is None:
                return False
            total = sum(file.size for file in recovered_files(recovery))
            lease.held().update(
                state=RecoveryState.READY, finished_at=Now(), lease_owner="", lease_until=None,
                stage="", error="", bytes_done=total, bytes_total=total,
            )  # fmt: skip
            recovery.refresh_from_db()
            for weights in (
                recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id")
            ):
                publish_revision(model=weights.model)
                append_event(kind="recovery.ready", model=weights.model, data={"recovery": recovery.pk})
            tell_ended(recovery=recovery)
            expect_answer(recovery=recovery)
            return True

    if not with_database(publish, give_up=lease.lost):
        raise LeaseLost


def _end_badly(lease: Lease, state: RecoveryState, sentence: str) -> None:
    """Failed or refused, its owners and the waiting told, in one commit; nothing of it is visible."""

    def write() -> None:
        with recorded():
            recovery = lease.held().select_for_update(of=("self",)).first()
            if recovery is None:
                return
            lease.held().update(
                state=state, error=sentence, finished_at=Now(), lease_owner="", lease_until=None, stage=""
            )
            recovery.refresh_from_db()
            data = {"recovery": recovery.pk, "attempt": recovery.attempts, "error": sentence}
            for weights in (
                recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id")
            ):
                append_event(kind=f"recovery.{state}", model=weights.model, data=data)
            tell_ended(recovery=recovery)

    log.error("Recovery %s %s: %s", lease.recovery_id, state, sentence)
    with_database(write, give_up=lease.lost)


def _give_back(lease: Lease) -> None:
    """The worker is told to go: the row is free again at once, and its finished work is kept."""
    lease.held().update(state=RecoveryState.PLANNED, lease_owner="", lease_until=None, stage="")
