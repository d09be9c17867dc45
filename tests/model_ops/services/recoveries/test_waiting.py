"""Recoveries that must wait because of a full disk, killed engines or missing folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from access_requests.models import Event, OutgoingMail
from model_ops.enums import DeliveryState, RecoveryState, ShardState, WaitsFor
from model_ops.models import Delivery, Recovery, RecoveryShard, SmokeRun
from model_ops.queries import current_recovery, published, waiting_words, weights_state
from model_ops.services.recoveries import leases
from model_ops.services.recoveries.failures import end_badly, ending
from model_ops.services.recoveries.resume import resume_work
from model_ops.services.recoveries.run import finish_recovery, run_recovery
from model_ops.services.recoveries.shards import run_shard
from model_ops.services.recoveries.test_prompt import ask_again, smoke_recovery
from model_ops.services.recoveries.waiting import MOST_TRIES, go_on, start_over, wait
from model_ops.services.recoveries.weights import cancel_recovery, retry, want_recovery
from model_ops.services.recoveries.workspace import output_folder
from tests.model_ops.conftest import engines, published_files, sha256
from tests.small_disk import clear, fill, small_disk, take_names

ROOM = "The disk that holds the portal's weights is full, or its quota is used up."
GOES_ON = "Make room there. The recovery then continues by itself."
KILLED = "The system ended the run (signal 9), most likely because memory ran out."


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A disk of 24 MiB with 400 inodes."""
    with small_disk(tmp_path / "disk", "size=24m,nr_inodes=400") as path:
        yield path


@pytest.fixture
def weights_on(disk: Path, weights_root: Path) -> Path:
    """Put the store on the small disk and return the disk."""
    weights_root.symlink_to(disk)
    return disk


@pytest.fixture
def killer() -> Callable[[Recovery], contextlib.AbstractContextManager[set[int]]]:
    """`with killer(recovery) as killed`: kill every engine of the recovery as soon as it is seen."""

    @contextlib.contextmanager
    def kill(recovery: Recovery) -> Generator[set[int]]:
        killed: set[int] = set()
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.01):
                for pid in engines(output_folder(recovery)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield killed
        finally:
            ended.set()
            thread.join()

    return kill


def run(model: Any) -> Recovery:
    """Run the model's recovery in this process and return it."""
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    return recovery


def let_time_pass() -> int:
    """Make everything that waits due, run beat's check, and return how many recoveries may go on."""
    for rows in (Recovery, RecoveryShard):
        rows.objects.exclude(waiting_for="").update(retry_at=timezone.now())
    return go_on()


def mails() -> list[str]:
    """Return the sorted kinds of emails that were queued."""
    return sorted(key.partition(":")[0] for key in OutgoingMail.objects.values_list("key", flat=True))


def test_a_full_disk_is_waited_for_and_the_weights_are_made_when_there_is_room(
    weights_on: Path,
    add_pair_model: Callable[..., Any],
    tiny_pair: Path,
    make_person: Callable[..., Any],
    grant: Callable[..., Any],
) -> None:
    owner = make_person("owner")
    model = add_pair_model(owner=owner)
    given = grant(model, "ada")
    fill(weights_on, leave=200_000)

    recovery = run(model)

    assert (recovery.state, recovery.waiting_for, recovery.tries) == ("planned", WaitsFor.ROOM, 1)
    assert recovery.bytes_needed > 200_000
    assert recovery.error.startswith(ROOM)
    assert recovery.error.endswith(f"are free. {GOES_ON}")
    words = "The portal's disk has no room for these weights at the moment. They are made as soon as there is room; "
    assert waiting_words(recovery) == f"{words}you don't have to start them again."
    assert words in weights_state(model).sentence
    assert weights_state(model).sentence.isascii()
    assert Delivery.objects.get(grant=given).state == DeliveryState.WAITING
    assert let_time_pass() == 0
    assert leases.claim(recovery_id=recovery.pk) is None

    clear(weights_on)
    assert let_time_pass() == 1
    run_recovery(recovery_id=recovery.pk)

    recovery.refresh_from_db()
    assert (recovery.state, recovery.waiting_for, recovery.error) == (RecoveryState.READY, "", "")
    assert (recovery.waiting_since, recovery.tries, recovery.bytes_needed) == (None, 0, 0)
    tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
    assert sha256(published_files(model)["model.safetensors"]) == tuned
    assert mails() == ["granted", "ready", "recovery-waits"]
    waits = OutgoingMail.objects.get(key__startswith="recovery-waits")
    assert (waits.to, waits.subject) == (
        owner.email,
        "The weights of ai/tiny are waiting for room on the disk",
    )
    assert Event.objects.filter(kind="recovery.waiting").count() == 1


def test_room_that_is_not_enough_begins_nothing(
    weights_on: Path, add_files_model: Callable[..., Any]
) -> None:
    first, second = add_files_model("ai/one"), add_files_model("ai/two")
    recovery = current_recovery(first)
    assert recovery == current_recovery(second)
    fill(weights_on, leave=4096)
    waits = {"waiting_for": WaitsFor.ROOM, "bytes_needed": 3_000_000, "wanted_at": timezone.now()}
    Recovery.objects.update(**waits)

    assert let_time_pass() == 0
    checked = Recovery.objects.get()
    assert (checked.waiting_for, checked.attempts) == (WaitsFor.ROOM, 0)
    assert checked.retry_at > timezone.now()


def test_two_that_wait_do_not_go_on_for_the_same_room(
    weights_on: Path, add_files_model: Callable[..., Any], tiny_pair: Path, add_pair_model: Callable[..., Any]
) -> None:
    add_files_model("ai/one")
    add_pair_model("ai/two")
    free = os.statvfs(weights_on).f_bavail * os.statvfs(weights_on).f_bsize
    Recovery.objects.update(waiting_for=WaitsFor.ROOM, bytes_needed=free * 2 // 3, wanted_at=timezone.now())

    assert let_time_pass() == 1
    assert Recovery.objects.filter(waiting_for=WaitsFor.ROOM).count() == 1


@pytest.mark.parametrize("leave", [1, 5, 9])
def test_a_disk_that_fills_on_the_way_is_waited_for(
    weights_on: Path, add_pair_model: Callable[..., Any], tiny_pair: Path, leave: int
) -> None:
    """Without inodes for new files the disk is full at any point of the run, though it has free bytes."""
    model = add_pair_model(options={"max_shard_size": "1MB"})
    take_names(weights_on, leave=leave)

    recovery = run(model)
    assert (recovery.state, recovery.waiting_for) == ("planned", WaitsFor.ROOM)
    assert recovery.error == f"{ROOM} {GOES_ON}"
    let_time_pass()
    run_recovery(recovery_id=recovery.pk)
    again = Recovery.objects.get()
    assert (again.state, again.attempts) == ("planned", 2)

    clear(weights_on)
    let_time_pass()
    run_recovery(recovery_id=recovery.pk)

    assert Recovery.objects.get().state == RecoveryState.READY
    assert published(model) is not None


def test_publishing_on_a_full_disk_waits_and_makes_nothing_again(
    weights_on: Path, add_files_model: Callable[..., Any]
) -> None:
    """The copies are complete, but the store has no inode left for the folder of the last one."""
    model = add_files_model()
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    take_names(weights_on, leave=8)

    run_recovery(recovery_id=recovery.pk)
    waits = Recovery.objects.get()
    assert (waits.state, waits.waiting_for) == ("planned", WaitsFor.ROOM)
    clear(weights_on)
    let_time_pass()
    run_recovery(recovery_id=recovery.pk)

    assert Recovery.objects.get().state == RecoveryState.READY


def test_an_engine_killed_twice_in_a_row_is_tried_again_later_and_finishes(
    add_pair_model: Callable[..., Any],
    tiny_pair: Path,
    grant: Callable[..., Any],
    make_person: Callable[..., Any],
    killer: Callable[..., Any],
) -> None:
    model = add_pair_model(owner=make_person("owner"))
    given = grant(model, "ada")
    recovery = current_recovery(model)
    assert recovery is not None
    pauses = []
    for tries in (1, 2):
        with killer(recovery) as killed:
            recovery = run(model)
        assert len(killed) == 1
        assert (recovery.state, recovery.waiting_for, recovery.tries) == ("planned", WaitsFor.AGAIN, tries)
        assert recovery.error == f"{KILLED} The recovery continues by itself."
        pauses.append(recovery.retry_at - timezone.now())
        assert leases.claim(recovery_id=recovery.pk) is None
        before = recovery.retry_at
        assert let_time_pass() == 1
    assert pauses[0] < pauses[1]
    recovery.retry_at = before
    recovery.waiting_for = WaitsFor.AGAIN
    assert waiting_words(recovery) == (
        f"The work on these weights was interrupted 2 times. The next try starts at {before:%H:%M} UTC."
    )

    run_recovery(recovery_id=recovery.pk)

    assert (Recovery.objects.get().state, Recovery.objects.get().attempts) == (RecoveryState.READY, 3)
    tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
    assert sha256(published_files(model)["model.safetensors"]) == tuned
    assert Delivery.objects.get(grant=given).state == DeliveryState.READY
    assert mails() == ["granted", "ready"]


def test_an_engine_that_is_killed_whenever_it_runs_fails_with_what_was_seen(
    add_pair_model: Callable[..., Any], grant: Callable[..., Any], killer: Callable[..., Any]
) -> None:
    model = add_pair_model()
    grant(model, "ada")
    recovery = current_recovery(model)
    assert recovery is not None
    Recovery.objects.update(
        tries=MOST_TRIES - 2, waiting_since=timezone.now(), wanted_at=timezone.now()
    )  # from earlier tries
    since = Recovery.objects.get().waiting_since

    with killer(recovery):
        recovery = run(model)
        assert (recovery.state, recovery.tries) == ("planned", MOST_TRIES - 1)
        let_time_pass()
        recovery = run(model)

    assert recovery.state == RecoveryState.FAILED
    assert recovery.error == (
        f"{KILLED} This happened {MOST_TRIES} times since {since:%H:%M} UTC without progress. "
        "Give the worker more memory, then try again."
    )
    assert (recovery.waiting_for, recovery.tries, recovery.waiting_since) == ("", 0, None)
    assert mails() == ["granted", "weights-failed"]


def test_tries_that_get_further_are_not_counted(
    add_pair_model: Callable[..., Any], killer: Callable[..., Any]
) -> None:
    """A shard was finished since the last try, so the count starts again."""
    model = add_pair_model(options={"max_shard_size": "1MB"})
    recovery = current_recovery(model)
    assert recovery is not None
    Recovery.objects.update(tries=MOST_TRIES - 1, waiting_since=timezone.now())
    result = output_folder(recovery).with_name(f"{recovery.pk}.partial") / "result"
    result.mkdir(parents=True)
    (result / "one.safetensors").write_bytes(bytes(10_000))
    (result.parent / "one.safetensors.done.json").write_text("{}")

    with killer(recovery):
        recovery = run(model)

    assert (recovery.state, recovery.tries) == ("planned", 1)
    assert recovery.bytes_kept >= 10_000


def test_a_database_that_went_away_fails_no_recovery(add_files_model: Callable[..., Any]) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    want_recovery(recovery=recovery)
    owner = leases.claim(recovery_id=recovery.pk)
    held = Recovery.objects.filter(pk=recovery.pk, lease_owner=owner)
    never = threading.Event()
    with ending(
        "Recovery",
        end=lambda state, sentence: end_badly(held=held, state=state, sentence=sentence),
        wait=lambda why: leases.with_database(lambda: wait(held=held, why=why), give_up=never),
        give_back=lambda: None,
    ), connection.cursor() as cursor:  # fmt: skip
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    recovery.refresh_from_db()
    assert (recovery.state, recovery.waiting_for, recovery.tries) == ("planned", WaitsFor.AGAIN, 1)
    assert recovery.error == "The portal's database did not answer. The recovery continues by itself."
    assert mails() == []
    assert let_time_pass() == 1
    run_recovery(recovery_id=recovery.pk)
    assert Recovery.objects.get().state == RecoveryState.READY


def test_workers_that_die_with_a_run_are_counted(add_files_model: Callable[..., Any]) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    want_recovery(recovery=recovery)
    rows = Recovery.objects.filter(pk=recovery.pk)

    def die() -> None:
        assert leases.claim(recovery_id=recovery.pk)
        rows.update(lease_until=timezone.now())

    die()
    die()  # the second takes over at once
    for tries in range(2, MOST_TRIES):
        run_recovery(recovery_id=recovery.pk)
        found = rows.get()
        assert (found.state, found.waiting_for, found.tries) == ("planned", WaitsFor.AGAIN, tries)
        assert found.retry_at is not None
        assert let_time_pass() == 1
        die()
    run_recovery(recovery_id=recovery.pk)
    assert rows.get().state == RecoveryState.FAILED
    assert f"This happened {MOST_TRIES} times" in rows.get().error
    retry(recovery=rows.get())
    run_recovery(recovery_id=recovery.pk)
    assert (rows.get().state, rows.get().tries) == (RecoveryState.READY, 0)


def test_a_start_hurries_what_would_wait_for_long_and_gives_no_counted_try_back(
    add_files_model: Callable[..., Any],
) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    soon, later = timezone.now() + timedelta(seconds=40), timezone.now() + timedelta(minutes=15)
    for reason, at, tries, hurried in (
        (WaitsFor.AGAIN, later, 4, True), (WaitsFor.REMOTE, later, 0, True), (WaitsFor.REMOTE, soon, 4, False),
    ):  # fmt: skip
        Recovery.objects.update(waiting_for=reason, retry_at=at, tries=4, wanted_at=timezone.now())
        start_over()
        assert (Recovery.objects.get().tries, go_on()) == (tries, int(hurried))


def test_an_owner_tries_at_once_with_all_tries(add_files_model: Callable[..., Any]) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    later = timezone.now() + timedelta(minutes=15)
    Recovery.objects.update(waiting_for=WaitsFor.AGAIN, retry_at=later, tries=4, wanted_at=timezone.now())

    retried = retry(recovery=Recovery.objects.get())
    assert (retried.state, retried.waiting_for, retried.tries, retried.retry_at) == ("planned", "", 0, None)

    run_recovery(recovery_id=recovery.pk)
    assert Recovery.objects.get().state == RecoveryState.READY
    assert Event.objects.filter(kind="recovery.retried").count() == 1


def test_what_waits_can_be_cancelled(add_files_model: Callable[..., Any]) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    Recovery.objects.update(
        waiting_for=WaitsFor.ROOM, retry_at=timezone.now(), tries=2, wanted_at=timezone.now()
    )

    cancelled = cancel_recovery(recovery=recovery)

    assert (cancelled.state, cancelled.waiting_for, cancelled.tries) == (RecoveryState.CANCELLED, "", 0)
    assert go_on() == 0


def test_a_store_that_is_not_mounted_is_waited_for_and_not_written_to(
    add_files_model: Callable[..., Any], weights_root: Path
) -> None:
    model = add_files_model()
    mounted = weights_root.rename(weights_root.with_name("mounted"))
    weights_root.mkdir()

    recovery = run(model)

    assert (recovery.state, recovery.waiting_for) == ("planned", WaitsFor.STORE)
    assert list(weights_root.iterdir()) == []
    weights_root.rmdir()
    mounted.rename(weights_root)
    assert let_time_pass() == 1
    run_recovery(recovery_id=recovery.pk)
    assert Recovery.objects.get().state == RecoveryState.READY


def test_a_source_below_an_empty_folder_is_waited_for(
    add_files_model: Callable[..., Any], files_folder: Path, tmp_path: Path
) -> None:
    """A disk may not be mounted. If other folders are there, a missing one is refused."""
    place = tmp_path / "nfs"
    place.mkdir()
    source = Path(shutil.copytree(files_folder, place / "files"))
    model = add_files_model(folder=source)
    away = source.rename(tmp_path / "away")

    recovery = run(model)
    assert (recovery.state, recovery.waiting_for) == ("planned", WaitsFor.SOURCE)
    assert recovery.error.startswith(f"The folder {source} is not there, and the folder above it is empty")

    (place / "other").mkdir()
    let_time_pass()
    run_recovery(recovery_id=recovery.pk)
    assert Recovery.objects.get().state == RecoveryState.REFUSED
    (place / "other").rmdir()
    away.rename(source)
    retry(recovery=Recovery.objects.get())
    run_recovery(recovery_id=recovery.pk)
    assert Recovery.objects.get().state == RecoveryState.READY


def test_a_shard_whose_engine_is_killed_waits_alone(
    add_pair_model: Callable[..., Any], settings: Any, killer: Callable[..., Any], tiny_pair: Path
) -> None:
    settings.GATEHOUSE_SHARED_WEIGHTS = True
    model = add_pair_model(options={"max_shard_size": "1MB"})
    recovery = run(model)
    first, *others = recovery.shards.all()
    with killer(recovery):
        run_shard(shard_id=first.pk, worker="one@here")
    first.refresh_from_db()
    assert (first.state, first.waiting_for, first.tries) == (ShardState.PLANNED, WaitsFor.AGAIN, 1)
    recovery.refresh_from_db()
    assert (recovery.state, recovery.waiting_for) == (RecoveryState.RUNNING, WaitsFor.AGAIN)
    assert leases.claim_shard(shard_id=first.pk, worker="two@here") is None

    for shard in others:
        run_shard(shard_id=shard.pk, worker="two@here")
    assert let_time_pass() == 1
    run_shard(shard_id=first.pk, worker="two@here")
    finish_recovery(recovery_id=recovery.pk)

    recovery.refresh_from_db()
    assert (recovery.state, recovery.waiting_for, recovery.error) == (RecoveryState.READY, "", "")
    assert published(model) is not None


def test_a_shard_that_is_killed_whenever_it_is_made_fails_the_recovery(
    add_pair_model: Callable[..., Any], settings: Any, killer: Callable[..., Any]
) -> None:
    settings.GATEHOUSE_SHARED_WEIGHTS = True
    recovery = run(add_pair_model(options={"max_shard_size": "1MB"}))
    shard = recovery.shards.earliest("pk")
    RecoveryShard.objects.filter(pk=shard.pk).update(tries=F("tries") + MOST_TRIES - 1)

    with killer(recovery):
        run_shard(shard_id=shard.pk, worker="one@here")

    recovery.refresh_from_db()
    assert recovery.state == RecoveryState.FAILED
    assert recovery.error.startswith(f"{KILLED} This happened {MOST_TRIES} times")


def test_a_shard_on_a_full_disk_waits_for_room(
    weights_on: Path, add_pair_model: Callable[..., Any], settings: Any
) -> None:
    settings.GATEHOUSE_SHARED_WEIGHTS = True
    recovery = run(add_pair_model(options={"max_shard_size": "1MB"}))
    fill(weights_on, leave=100_000)
    shards = list(recovery.shards.all())
    for shard in shards:
        run_shard(shard_id=shard.pk, worker="one@here")
    assert set(recovery.shards.values_list("state", "waiting_for")) == {("planned", WaitsFor.ROOM)}
    assert let_time_pass() == 0

    clear(weights_on)
    assert let_time_pass() == len(shards)
    for shard in shards:
        run_shard(shard_id=shard.pk, worker="one@here")
    finish_recovery(recovery_id=recovery.pk)

    recovery.refresh_from_db()
    assert (recovery.state, recovery.waiting_for) == (RecoveryState.READY, "")


def test_owners_of_what_lasts_are_informed_once(
    add_pair_model: Callable[..., Any],
    make_person: Callable[..., Any],
    killer: Callable[..., Any],
    settings: Any,
) -> None:
    model = add_pair_model(owner=make_person("owner"))
    recovery = current_recovery(model)
    assert recovery is not None
    with killer(recovery):
        run(model)
        assert mails() == []
        since = timezone.now() - timedelta(days=settings.GATEHOUSE_KEEP_MAIL_DAYS) + timedelta(hours=1)
        for _ in range(2):
            Recovery.objects.update(waiting_since=since)
            let_time_pass()
            run(model)
        assert mails() == ["recovery-waits"]

        OutgoingMail.objects.all().delete()  # as the clean-up job does
        Recovery.objects.update(waiting_since=since - timedelta(hours=2))
        let_time_pass()
        assert run(model).waiting_for == WaitsFor.AGAIN
        assert mails() == []


def test_a_test_prompt_on_a_full_disk_waits(
    weights_on: Path, add_pair_model: Callable[..., Any], settings: Any
) -> None:
    settings.GATEHOUSE_SMOKE = True
    recovery = run(add_pair_model())
    assert recovery.state == RecoveryState.READY
    ask_again(recovery=recovery)
    take_names(weights_on, leave=1)

    smoke_recovery(recovery_id=recovery.pk)

    waits = SmokeRun.objects.get()
    assert (waits.state, waits.error) == (
        "waiting",
        "The portal's disk is full. The test prompt runs when there is room.",
    )
    assert waits.retry_at > timezone.now()
    resume_work()
    assert SmokeRun.objects.get().state == "waiting"
    clear(weights_on)
    SmokeRun.objects.update(retry_at=timezone.now())
    smoke_recovery(recovery_id=recovery.pk)
    assert SmokeRun.objects.get().state != "waiting"
