"""Spread a recovery over workers with a shared folder: one row and one message for each shard.

The process that makes the last shard wakes a worker for the end. Beat hands out again what is lost on the way.
"""

from __future__ import annotations

import secrets
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from access_requests.services.event_log.append import recorded
from access_requests.services.leases import FREE
from access_requests.services.queue import enqueue_each_on_commit, enqueue_on_commit
from model_ops.enums import Method, RecoveryState, ShardState, WaitsFor
from model_ops.models import Recovery, RecoveryShard
from model_ops.services.recoveries.disk_space import is_store_here
from model_ops.services.recoveries.engine import recover_arguments
from model_ops.services.recoveries.failures import LeaseLost, RunWaits, end_badly, ending
from model_ops.services.recoveries.leases import Lease, claim_shard, died, is_spread, with_database
from model_ops.services.recoveries.waiting import DIED, last_sentence_of, wait_shard
from model_ops.services.recoveries.workspace import output_folder, run_engine, writing
from model_ops.services.sources.spec import fetched_folder

RUN_SHARD = "model_ops.tasks.run_shard"
FINISH_RECOVERY = "model_ops.tasks.finish_recovery"


def is_worth_spreading(recovery: Recovery) -> bool:
    """Return whether workers share the weights folder and there is more than one shard to make."""
    shards = recovery.plan.get("shards", ())
    return settings.GATEHOUSE_SHARED_WEIGHTS and recovery.method == Method.RECOVER and len(shards) > 1


def spread(*, lease: Lease, recovery: Recovery) -> None:
    """Enqueue the shards for all workers and release the recovery: its end is claimed when all shards are made."""
    shards = [(shard["file"], shard["bytes"]) for shard in recovery.plan["shards"]]

    def write() -> bool:
        with transaction.atomic():
            run_id = secrets.token_hex(16)
            if not lease.held().update(
                run_id=run_id, lease_owner=run_id, lease_until=Now(), stage="recovering",
                stage_started_at=Now(), bytes_done=0, bytes_total=sum(size for _, size in shards),
            ):  # fmt: skip
                return False
            recovery.shards.all().delete()
            rows = [RecoveryShard(recovery=recovery, file=file, bytes_total=size) for file, size in shards]
            made = RecoveryShard.objects.bulk_create(rows)
            enqueue_each_on_commit(RUN_SHARD, [row.pk for row in made])
            return True

    if not with_database(write, give_up=lease.lost):
        raise LeaseLost


def run_shard(*, shard_id: int, worker: str = "") -> None:
    """Claim one shard and make it; do nothing if another worker has it or its recovery has ended."""
    dead = RecoveryShard.objects.filter(is_spread(), died(), pk=shard_id)
    if shard := dead.select_related("recovery").first():  # workers died with it more than once
        if not wait_shard(held=dead, why=DIED):
            _end_badly(dead, shard, RecoveryState.FAILED, last_sentence_of(shard, DIED))
        return
    owner = claim_shard(shard_id=shard_id, worker=worker)
    found = RecoveryShard.objects.select_related("recovery__base", "recovery__diff").filter(pk=shard_id)
    row = found.first() if owner else None
    if owner is None or row is None:
        return
    rows = RecoveryShard.objects.filter(is_spread(), pk=shard_id)
    # Released at once if the worker stops or the recovery has ended; finished work is kept.
    ours = RecoveryShard.objects.filter(pk=shard_id, state=ShardState.RUNNING, lease_owner=owner)
    name, also = f"Shard {row.file} of recovery {row.recovery_id}", partial(add_up, row.recovery_id)
    with (
        Lease(rows, owner, also=also, name=name) as lease,
        ending(
            name,
            end=partial(_fail_recovery, lease, row),
            wait=partial(_wait_or_fail, lease, row),
            give_back=partial(ours.update, state=ShardState.PLANNED, **FREE),
        ),
    ):
        _make_shard(row, lease)
        _mark_as_made(row, lease)


def _make_shard(shard: RecoveryShard, lease: Lease) -> None:
    """Make the shard with the engine in a child; file and record stay in the partial folder until the recovery ends."""
    recovery, output = shard.recovery, output_folder(shard.recovery)
    if not is_store_here():
        raise RunWaits(WaitsFor.STORE)
    assert recovery.base is not None and recovery.diff is not None  # noqa: S101, PT018 - the row's constraint says so
    with writing(output, lease, shared=True) as lock:
        arguments = recover_arguments(
            recovery=recovery,
            base=fetched_folder(recovery.base),
            diff=fetched_folder(recovery.diff),
            target=output,
            only=[shard.file],
        )
        run_engine(arguments, lease, lock=lock)


def _mark_as_made(shard: RecoveryShard, lease: Lease) -> None:
    """Mark the shard as made; the last one of a recovery wakes a worker for the end."""

    def write() -> bool:
        with transaction.atomic():
            Recovery.objects.select_for_update(no_key=True).get(
                pk=shard.recovery_id
            )  # siblings end one after another
            if not lease.held().update(state=ShardState.DONE, bytes_done=F("bytes_total"), **FREE):
                return False
            add_up(shard.recovery_id)
            if not shard.recovery.shards.exclude(state=ShardState.DONE).exists():
                enqueue_on_commit(FINISH_RECOVERY, shard.recovery_id)
            return True

    if not with_database(write, give_up=lease.lost):
        raise LeaseLost


def add_up(recovery_id: int) -> None:
    """Set the progress of the recovery to the sum of its shards."""
    shards = RecoveryShard.objects.filter(recovery=OuterRef("pk")).order_by().values("recovery")
    total = Subquery(shards.annotate(total=Sum("bytes_done")).values("total"))
    Recovery.objects.filter(pk=recovery_id, state=RecoveryState.RUNNING).update(bytes_done=Coalesce(total, 0))


def _fail_recovery(lease: Lease, shard: RecoveryShard, state: RecoveryState, sentence: str) -> None:
    with_database(lambda: _end_badly(lease.held(), shard, state, sentence), give_up=lease.lost)


def _end_badly(
    held: QuerySet[RecoveryShard], shard: RecoveryShard, state: RecoveryState, sentence: str
) -> None:
    """End the whole recovery, by which the sibling shards lose their leases."""
    recovery = Recovery.objects.filter(
        pk=shard.recovery_id, state=RecoveryState.RUNNING, run_id=shard.recovery.run_id
    )
    with recorded():
        recovery.select_for_update(no_key=True).first()
        if held.exists() and end_badly(held=recovery, state=state, sentence=sentence):
            RecoveryShard.objects.filter(pk=shard.pk).update(state=ShardState.PLANNED, error=sentence, **FREE)


def _wait_or_fail(lease: Lease, shard: RecoveryShard, why: RunWaits) -> None:
    """Let only this shard wait; fail the whole recovery if its tries are used up."""
    if with_database(lambda: wait_shard(held=lease.held(), why=why), give_up=lease.lost) is False:
        _fail_recovery(lease, shard, RecoveryState.FAILED, last_sentence_of(shard, why))
