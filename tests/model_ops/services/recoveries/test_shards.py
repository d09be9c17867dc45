"""A recovery split into shards: rows, claims, progress, and what remains after losses."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from model_ops.enums import RecoveryState, ShardState
from model_ops.models import Recovery, RecoveryShard, Revision
from model_ops.queries import current_recovery
from model_ops.services.recoveries import leases
from model_ops.services.recoveries.child_process import run_child
from model_ops.services.recoveries.resume import resume_work
from model_ops.services.recoveries.run import finish_recovery, run_recovery
from model_ops.services.recoveries.shards import add_up, is_worth_spreading, run_shard
from model_ops.services.recoveries.weights import cancel_recovery, retry, want_recovery
from model_ops.services.recoveries.workspace import output_folder
from tests.model_ops.conftest import copy_pair
from tests.threads import once_main_thread_waits_in
from tests.waiting import wait_until

SMALL = {"max_shard_size": "1MB"}  # three shards of the tiny pair


@pytest.fixture(autouse=True)
def shared(settings: Any) -> None:
    settings.GATEHOUSE_SHARED_WEIGHTS = True


class Queue:
    """The messages for workers on recoveries, which no worker takes in these tests."""

    def __len__(self) -> int:
        with current_app.connection_for_write() as broker:
            return broker.default_channel.queue_declare("recovery", passive=True).message_count

    def flush(self) -> None:
        with current_app.connection_for_write() as broker:
            broker.default_channel.queue_purge("recovery")


@pytest.fixture
def queue(transactional_db: None) -> Generator[Queue]:
    """A queue that is empty before and after the test."""
    found = Queue()
    found.flush()
    yield found
    found.flush()


@pytest.fixture
def spread(add_pair_model: Callable[..., Any], queue: Queue) -> Callable[..., Recovery]:
    """`spread()`: return a recovery whose three shards have been handed out."""

    def begin(**fields: Any) -> Recovery:
        recovery = current_recovery(add_pair_model(options=SMALL, **fields))
        assert recovery is not None
        want_recovery(recovery=recovery)
        run_recovery(recovery_id=recovery.pk)
        recovery.refresh_from_db()
        return recovery

    return begin


def make_all(recovery: Recovery) -> None:
    for shard in recovery.shards.all():
        run_shard(shard_id=shard.pk, worker="one@here")


def test_shards_are_handed_out_and_nothing_is_made(spread: Callable[..., Recovery], queue: Queue) -> None:
    recovery = spread()

    assert (recovery.state, recovery.stage, recovery.attempts) == (RecoveryState.RUNNING, "recovering", 1)
    assert recovery.run_id != ""
    shards = list(recovery.shards.all())
    assert [shard.file for shard in shards] == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert {(shard.state, shard.worker, shard.bytes_done) for shard in shards} == {("planned", "", 0)}
    assert recovery.bytes_total == sum(shard.bytes_total for shard in shards)
    assert not output_folder(recovery).with_name(f"{recovery.pk}.partial").exists()
    assert len(queue) == 1 + 3  # with the recovery's own message, which nobody took from the queue here


def test_only_models_of_several_shards_are_spread_and_only_over_shared_folders(
    add_pair_model: Callable[..., Any], add_files_model: Callable[..., Any], settings: Any
) -> None:
    models = [
        add_pair_model("ai/one"),
        add_pair_model("ai/three", options=SMALL),
        add_files_model("ai/files"),
    ]
    recoveries = [recovery for model in models if (recovery := current_recovery(model))]

    assert [is_worth_spreading(recovery) for recovery in recoveries] == [False, True, False]
    settings.GATEHOUSE_SHARED_WEIGHTS = False
    assert [is_worth_spreading(recovery) for recovery in recoveries] == [False, False, False]


def test_shards_of_an_earlier_attempt_are_forgotten_by_one_that_is_not_spread(
    spread: Callable[..., Recovery], settings: Any
) -> None:
    recovery = spread()
    cancel_recovery(recovery=recovery)
    settings.GATEHOUSE_SHARED_WEIGHTS = False
    retry(recovery=recovery)

    run_recovery(recovery_id=recovery.pk)

    recovery.refresh_from_db()
    assert (recovery.state, recovery.run_id, recovery.shards.count()) == (RecoveryState.READY, "", 0)


def test_claim_of_a_shard_by_many_threads_has_one_winner(spread: Callable[..., Recovery]) -> None:
    shard = spread().shards.earliest("pk")
    barrier, owners = threading.Barrier(6), []

    def claim(number: int) -> None:
        barrier.wait()
        owners.append(leases.claim_shard(shard_id=shard.pk, worker=f"{number}@here"))
        connection.close()

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    shard.refresh_from_db()
    assert [owner for owner in owners if owner] == [shard.lease_owner]
    assert (shard.state, shard.attempts) == (ShardState.RUNNING, 1)


def test_worker_of_a_cancelled_recovery_loses_its_shard_and_no_other_gets_one(
    spread: Callable[..., Recovery],
) -> None:
    recovery = spread()
    first, second, _ = recovery.shards.all()
    owner = leases.claim_shard(shard_id=first.pk, worker="one@here")
    assert owner is not None
    rows = RecoveryShard.objects.filter(leases.is_spread(), pk=first.pk)

    with leases.Lease(rows, owner) as lease:
        cancel_recovery(recovery=recovery)
        assert lease.held().update(state=ShardState.DONE) == 0
        assert lease.lost.wait(60)

    assert leases.claim_shard(shard_id=second.pk, worker="two@here") is None
    assert leases.claim_finishing(recovery_id=recovery.pk) is None


def test_progress_of_the_recovery_is_that_of_its_shards(spread: Callable[..., Recovery]) -> None:
    recovery = spread()
    first, second, _ = recovery.shards.all()
    RecoveryShard.objects.filter(pk=second.pk).update(bytes_done=50)
    owner = leases.claim_shard(shard_id=first.pk, worker="one@here")
    assert owner is not None
    rows = RecoveryShard.objects.filter(leases.is_spread(), pk=first.pk)

    with leases.Lease(rows, owner, also=partial(add_up, recovery.pk)) as lease:
        lease.report(done=7, total=first.bytes_total)
        wait_until(lambda: Recovery.objects.get().bytes_done)

    first.refresh_from_db()
    assert (first.bytes_done, Recovery.objects.get().bytes_done) == (7, 57)


def test_recovery_whose_shards_are_not_all_made_is_neither_begun_nor_ended(
    spread: Callable[..., Recovery],
) -> None:
    recovery = spread()
    Recovery.objects.filter(pk=recovery.pk).update(lease_until=timezone.now())
    recovery.shards.exclude(pk=recovery.shards.latest("pk").pk).update(state=ShardState.DONE)

    assert leases.claim(recovery_id=recovery.pk) is None
    assert leases.claim_finishing(recovery_id=recovery.pk) is None


def test_flushed_broker_loses_no_shard_and_not_the_end(spread: Callable[..., Recovery], queue: Queue) -> None:
    recovery = spread()
    first = recovery.shards.earliest("pk")
    queue.flush()

    resume_work()

    assert len(queue) == 3
    RecoveryShard.objects.filter(pk=first.pk).update(
        state=ShardState.RUNNING, lease_owner="dead", lease_until=timezone.now(), attempts=1
    )
    make_all(recovery)
    recovery.refresh_from_db()
    assert (recovery.state, recovery.bytes_done) == (RecoveryState.RUNNING, recovery.bytes_total)
    assert len(queue) == 4
    queue.flush()

    resume_work()

    assert len(queue) == 1
    finish_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    assert (recovery.state, recovery.attempts) == (RecoveryState.READY, 1)
    assert [shard.attempts for shard in recovery.shards.all()] == [2, 1, 1]
    assert not list(output_folder(recovery).parent.glob(f"{recovery.pk}[!0-9]*artial"))


def test_shard_that_fails_ends_its_recovery_and_a_retry_keeps_what_is_made(
    spread: Callable[..., Recovery], tiny_pair: Path, tmp_path: Path, grant: Callable[..., Any]
) -> None:
    pair = copy_pair(tiny_pair, tmp_path / "pair")
    weights = pair / "diff" / "model.safetensors"
    whole = weights.read_bytes()
    recovery = spread(pair=pair)
    first, second, third = recovery.shards.all()
    run_shard(shard_id=first.pk)
    recovery.refresh_from_db()
    partial = output_folder(recovery).with_name(f"{recovery.pk}.partial")
    made = partial / "result" / first.file

    weights.rename(pair / "away")
    run_shard(shard_id=second.pk)

    recovery.refresh_from_db()
    second.refresh_from_db()
    assert (recovery.state, second.state) == (RecoveryState.REFUSED, ShardState.PLANNED)
    assert recovery.error == second.error
    assert recovery.error.endswith(".")
    assert Revision.objects.filter(has_weights=True).count() == 0
    run_shard(shard_id=third.pk)
    third.refresh_from_db()
    assert (third.state, third.attempts) == (ShardState.PLANNED, 0)

    (pair / "away").rename(weights)
    assert weights.read_bytes() == whole
    before = made.stat().st_ino, made.stat().st_mtime_ns
    retry(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    run_shard(shard_id=recovery.shards.get(file=first.file).pk)
    assert (made.stat().st_ino, made.stat().st_mtime_ns) == before
    assert recovery.shards.get(file=first.file).state == ShardState.DONE


def test_end_of_a_spread_recovery_keeps_the_progress_of_its_shards(
    spread: Callable[..., Recovery],
) -> None:
    """A file where the result should go ends the recovery before the engine reports anything."""
    recovery = spread()
    make_all(recovery)
    in_the_way = output_folder(recovery) / "mine.txt"
    in_the_way.parent.mkdir()
    in_the_way.write_text("mine")

    finish_recovery(recovery_id=recovery.pk)

    recovery.refresh_from_db()
    assert (recovery.state, recovery.bytes_done) == (RecoveryState.REFUSED, recovery.bytes_total)
    assert recovery.bytes_total == sum(shard.bytes_total for shard in recovery.shards.all())


def test_interrupted_shard_is_free_again_at_once(
    spread: Callable[..., Recovery],
) -> None:
    """The worker is shut down while its engine runs; the next one need not wait for the lease to expire."""
    shard = spread().shards.earliest("pk")
    with once_main_thread_waits_in(run_child, _thread.interrupt_main), pytest.raises(KeyboardInterrupt):
        run_shard(shard_id=shard.pk)

    shard.refresh_from_db()
    assert (shard.state, shard.lease_owner, shard.attempts) == (ShardState.PLANNED, "", 1)
