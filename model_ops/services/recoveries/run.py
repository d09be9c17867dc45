"""Run a recovery from the claim to the published revision; one spread over workers starts and ends here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.db.models.functions import Now

from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.leases import FREE
from access_requests.services.locks import share_store
from model_ops.enums import Method, RecoveryState, SourceKind, WaitsFor
from model_ops.models import Recovery
from model_ops.services.recoveries.copy_files import copy_files
from model_ops.services.recoveries.deliver import tell_ended
from model_ops.services.recoveries.disk_space import is_store_here
from model_ops.services.recoveries.engine import read_result, recover_arguments
from model_ops.services.recoveries.failures import LeaseLost, RunWaits, end_badly, ending
from model_ops.services.recoveries.fetch import fetch_sources
from model_ops.services.recoveries.leases import NOT_WAITING, Lease, claim, claim_finishing, with_database
from model_ops.services.recoveries.shards import is_worth_spreading, spread
from model_ops.services.recoveries.test_prompt import expect_answer
from model_ops.services.recoveries.waiting import rest, wait
from model_ops.services.recoveries.weights import make_plan
from model_ops.services.recoveries.workspace import output_folder, run_engine, writing
from model_ops.services.revisions.publish import publish_revision, recovered_files
from model_ops.services.sources.spec import fetched_folder
from model_ops.services.store.blobs import is_stored, store_file
from model_ops.services.store.git_objects import StoredFile

INPUTS = ("method", "base", "diff", "files", "options")


def run_recovery(*, recovery_id: int) -> None:
    """Claim the recovery and finish it, or hand out its shards; do nothing if another worker has it.

    A shutdown gives the row back at once. If the worker is killed, the lease expires and beat hands the recovery out again:
    at once the first time, then after pauses, up to the number of tries for killed runs.
    """
    if rest(recovery_id=recovery_id):
        return
    owner = claim(recovery_id=recovery_id)
    if owner is not None:
        free = {"state": RecoveryState.PLANNED, "stage": "", **FREE}
        _run_claimed(recovery_id, owner, give_back=lambda lease: lease.held().update(**free))


def finish_recovery(*, recovery_id: int) -> None:
    """Claim the end of a recovery whose shards are all made, and publish them without reading them again."""
    owner = claim_finishing(recovery_id=recovery_id)
    if owner is not None:
        _run_claimed(recovery_id, owner, give_back=lambda lease: lease.held().update(lease_until=Now()))


def _run_claimed(recovery_id: int, owner: str, *, give_back: Callable[[Lease], object]) -> None:
    name = f"Recovery {recovery_id}"
    with (
        Lease(Recovery.objects.filter(pk=recovery_id), owner, name=name) as lease,
        ending(
            name,
            end=partial(_end_badly, lease),
            wait=partial(_let_wait, lease),
            give_back=partial(give_back, lease),
        ),
    ):
        _make_and_publish(lease)


def _end_badly(lease: Lease, state: RecoveryState, sentence: str) -> None:
    with_database(lambda: end_badly(held=lease.held(), state=state, sentence=sentence), give_up=lease.lost)


def _let_wait(lease: Lease, why: RunWaits) -> None:
    with_database(lambda: wait(held=lease.held(), why=why), give_up=lease.lost)


def _make_and_publish(lease: Lease) -> None:
    recovery = with_database(
        lambda: lease.held().select_related("base", "diff", "files").first(), give_up=lease.lost
    )
    if recovery is None:
        raise LeaseLost
    if not is_store_here():
        raise RunWaits(WaitsFor.STORE)
    output = output_folder(recovery)
    with writing(output, lease) as lock:
        made = recovered_files(recovery)  # by an earlier run that reached publishing
        if not made or not all(is_stored(file) or (output / file.path).is_file() for file in made):
            if made:  # some files are gone: nothing here can be resumed
                shutil.rmtree(output, ignore_errors=True)
            fetch_sources(recovery, lease, before_fetching=partial(_enter_stage, lease, "fetching"))
            # Plan again with all sources here, so that changes since then are refused before a byte is written.
            plan = make_plan({name: getattr(recovery, name) for name in INPUTS})
            if plan != recovery.plan:
                _save_fields(lease, recovery, plan=plan)
            if not recovery.run_id and is_worth_spreading(recovery):
                spread(lease=lease, recovery=recovery)
                return
            if recovery.run_id:  # its shards are made: keep their progress
                lease.write(stage="recovering")
            else:
                with_database(recovery.shards.all().delete, give_up=lease.lost)
                _enter_stage(lease, "recovering")
            files, facts = _make_files(recovery, output, lease, lock)
            _save_fields(
                lease, recovery, manifest={"files": [file.to_json() for file in files], "engine": facts}
            )
        lease.write(stage="publishing")
        for file in recovered_files(recovery):
            store_file(file=file, source=output / file.path)
        _publish_everywhere(lease)
        shutil.rmtree(output, ignore_errors=True)


def _enter_stage(lease: Lease, stage: str) -> None:
    """Record the new stage; progress starts again at zero."""
    lease.write(stage=stage, stage_started_at=Now(), bytes_done=0, bytes_total=0)


def _save_fields(lease: Lease, recovery: Recovery, **fields: Any) -> None:
    if not with_database(lambda: lease.held().update(**fields), give_up=lease.lost):
        raise LeaseLost
    for name, value in fields.items():
        setattr(recovery, name, value)


def _make_files(
    recovery: Recovery, output: Path, lease: Lease, lock: int
) -> tuple[list[StoredFile], dict[str, Any]]:
    if recovery.method == Method.COPY:
        assert recovery.files is not None  # noqa: S101 - the row's constraint says so

        def on_bytes(done: int, total: int) -> None:
            if lease.lost.is_set():
                raise LeaseLost
            lease.report(done=done, total=total)

        folder = fetched_folder(recovery.files)
        if recovery.files.kind != SourceKind.FOLDER:  # the portal's own store, which may be behind a link
            folder = folder.resolve()
        return copy_files(source=folder, target=output, on_bytes=on_bytes), {}
    assert recovery.base is not None and recovery.diff is not None  # noqa: S101, PT018 - the row's constraint says so
    arguments = recover_arguments(
        recovery=recovery,
        base=fetched_folder(recovery.base),
        diff=fetched_folder(recovery.diff),
        target=output,
    )
    run_engine(arguments, lease, lock=lock)
    return read_result(output)


def _publish_everywhere(lease: Lease) -> None:
    """Mark as ready, publish for every waiting model and email everyone who waits, in one transaction."""

    def publish() -> bool:
        with recorded():
            share_store()
            recovery = lease.held().select_for_update(no_key=True, of=("self",)).first()
            if recovery is None:
                return False
            total = sum(file.size for file in recovered_files(recovery))
            lease.held().update(
                state=RecoveryState.READY, finished_at=Now(), stage="", error="",
                bytes_done=total, bytes_total=total, **NOT_WAITING, **FREE,
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
