"""A real worker brings weights from grant to download, also when someone else is faster."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from access_requests.models import Event, OutgoingMail
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery, Recovery
from model_ops.queries import current_recovery, published, weights_state
from model_ops.services.recoveries import leases
from model_ops.services.recoveries.engine import read_result, recover_arguments
from model_ops.services.recoveries.resume import resume_work
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import cancel_recovery, retry, want_recovery
from model_ops.services.recoveries.workspace import output_folder, remove_leftovers
from model_ops.services.store.blobs import blob_path, store_file
from model_ops.services.store.git_objects import StoredFile
from tests.model_ops.conftest import WORKER_ENDS, copy_pair, published_files, sha256
from tests.waiting import wait_until


def run_now(model: Any) -> Recovery:
    """Run the model's recovery in this process and return it."""
    recovery = current_recovery(model)
    assert recovery is not None
    Recovery.objects.filter(pk=recovery.pk).update(wanted_at=timezone.now())
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    return recovery


def test_recovery_gives_back_the_tuned_model(add_pair_model: Callable[..., Any], tiny_pair: Path) -> None:
    model = add_pair_model()

    recovery = run_now(model)

    assert (recovery.state, recovery.error, recovery.percent) == (RecoveryState.READY, "", 100)
    files = published_files(model)
    diff = {path.name for path in (tiny_pair / "diff").iterdir()} - {"weights.manifest.json"}
    assert set(files) == diff | {".gitattributes"}
    assert sha256(files["model.safetensors"]) == sha256(tiny_pair / "tuned" / "model.safetensors")
    assert files["tokenizer.json"].read_bytes() == (tiny_pair / "diff" / "tokenizer.json").read_bytes()
    assert files["model.safetensors"].stat().st_mode & 0o777 == 0o600
    assert not output_folder(recovery).exists()


def test_two_models_and_three_grants_share_one_recovery(
    add_pair_model: Callable[..., Any], grant: Callable[..., Any], worker: None
) -> None:
    first, second = add_pair_model("ai/one"), add_pair_model("ai/two")
    grants = [grant(first, "ada"), grant(first, "grace"), grant(second, "edsger")]

    wait_until(lambda: Delivery.objects.filter(state=DeliveryState.READY).count() == 3)

    recovery = Recovery.objects.get()
    assert (recovery.state, recovery.attempts) == (RecoveryState.READY, 1)
    assert published_files(first)["model.safetensors"] == published_files(second)["model.safetensors"]
    ready = OutgoingMail.objects.filter(key__startswith="ready:").order_by("key")
    assert [mail.key for mail in ready] == sorted(f"ready:{given.pk}" for given in grants)
    assert Event.objects.filter(kind="recovery.ready").count() == 2
    assert Event.objects.filter(kind="revision.published").count() == 4


def test_a_later_model_with_the_same_inputs_is_ready_at_once(
    add_pair_model: Callable[..., Any], grant: Callable[..., Any], worker: None
) -> None:
    run_now(add_pair_model("ai/one"))

    second = add_pair_model("ai/two")
    given = grant(second, "ada")

    assert published(second) is not None
    wait_until(lambda: Delivery.objects.filter(grant=given, state=DeliveryState.READY).exists())
    assert Recovery.objects.get().attempts == 1


def test_claim_by_many_threads_has_one_winner(add_files_model: Callable[..., Any]) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    want_recovery(recovery=recovery)
    barrier, owners = threading.Barrier(6), []

    def claim() -> None:
        barrier.wait()
        owners.append(leases.claim(recovery_id=recovery.pk))
        connection.close()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    recovery.refresh_from_db()
    assert [owner for owner in owners if owner] == [recovery.lease_owner]
    assert (recovery.state, recovery.attempts) == (RecoveryState.RUNNING, 1)


def test_claim_of_an_unwanted_recovery_does_nothing(add_files_model: Callable[..., Any]) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None

    run_recovery(recovery_id=recovery.pk)

    recovery.refresh_from_db()
    assert (recovery.state, recovery.attempts) == (RecoveryState.PLANNED, 0)


def test_claim_of_a_live_lease_fails_and_of_an_expired_one_succeeds(
    add_files_model: Callable[..., Any],
) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    want_recovery(recovery=recovery)
    first = leases.claim(recovery_id=recovery.pk)

    assert leases.claim(recovery_id=recovery.pk) is None
    Recovery.objects.filter(pk=recovery.pk).update(lease_until=timezone.now())
    second = leases.claim(recovery_id=recovery.pk)

    assert first is not None
    assert second not in {None, first}


def test_a_worker_that_lost_its_lease_writes_nothing(add_files_model: Callable[..., Any]) -> None:
    model = add_files_model()
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    owner = leases.claim(recovery_id=recovery.pk)
    assert owner is not None

    with leases.Lease(Recovery.objects.filter(pk=recovery.pk), owner) as lease:
        Recovery.objects.filter(pk=recovery.pk).update(lease_owner="another")
        assert lease.held().update(bytes_done=7) == 0
        lease.report(done=5, total=9)
        assert lease.lost.wait(60)

    recovery.refresh_from_db()
    assert (recovery.lease_owner, recovery.bytes_done) == ("another", 0)


def test_files_are_published_as_they_are(add_files_model: Callable[..., Any], files_folder: Path) -> None:
    model = add_files_model()
    before = published_files(model)

    recovery = run_now(model)

    assert recovery.state == RecoveryState.READY
    assert set(before) == {".gitattributes", "README.md"}
    files = published_files(model)
    assert {path: files[path].read_bytes() for path in files if path != ".gitattributes"} == {
        path.name: path.read_bytes() for path in files_folder.iterdir()
    }


def test_a_folder_changed_since_is_refused_and_everybody_told(
    add_files_model: Callable[..., Any],
    files_folder: Path,
    make_person: Callable[..., Any],
    grant: Callable[..., Any],
) -> None:
    owner = make_person("owner")
    model = add_files_model(owner=owner)
    given = grant(model, "ada")
    (files_folder / "config.json").write_text("{}")

    recovery = run_now(model)

    sentence = f"The folder {files_folder} has changed since it was added: look at it and run manage.py update_model."
    assert (recovery.state, recovery.error) == (RecoveryState.REFUSED, sentence)
    assert published(model) is None
    told = dict(OutgoingMail.objects.filter(key__contains="failed").values_list("key", "to"))
    assert told == {
        f"recovery-failed:{recovery.pk}:1:{model.pk}:{owner.pk}": owner.email,
        f"weights-failed:{given.pk}:{recovery.pk}:1": given.user.email,
    }
    assert Delivery.objects.get(grant=given).state == DeliveryState.FAILED
    assert weights_state(model).state == RecoveryState.REFUSED


def test_a_retry_after_the_cause_is_gone_delivers(
    add_pair_model: Callable[..., Any],
    tiny_pair: Path,
    tmp_path: Path,
    grant: Callable[..., Any],
    worker: None,
) -> None:
    pair = copy_pair(tiny_pair, tmp_path / "pair")
    model = add_pair_model(pair=pair)
    (pair / "base").rename(pair / "away")
    given = grant(model, "ada")
    recovery = current_recovery(model)
    assert recovery is not None
    wait_until(lambda: Delivery.objects.filter(grant=given, state=DeliveryState.FAILED).exists())

    (pair / "away").rename(pair / "base")
    retry(recovery=recovery)

    wait_until(lambda: Delivery.objects.filter(grant=given, state=DeliveryState.READY).exists())
    assert sha256(published_files(model)["model.safetensors"]) == sha256(pair / "tuned" / "model.safetensors")


def test_a_worker_whose_recovery_was_cancelled_writes_nothing(add_files_model: Callable[..., Any]) -> None:
    """The worker notices by itself, without any progress to report."""
    model = add_files_model()
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    owner = leases.claim(recovery_id=recovery.pk)
    assert owner is not None

    with leases.Lease(Recovery.objects.filter(pk=recovery.pk), owner) as lease:
        cancel_recovery(recovery=recovery)
        assert lease.held().update(state=RecoveryState.READY) == 0
        assert lease.lost.wait(60)

    assert Recovery.objects.get().state == RecoveryState.CANCELLED
    assert published(model) is None


def test_publishing_interrupted_goes_on_where_it_stopped(
    add_pair_model: Callable[..., Any], tiny_pair: Path
) -> None:
    """A worker died after it moved the first file: the next one finds it in the store and the rest in the output."""
    model = add_pair_model()
    recovery = current_recovery(model)
    assert recovery is not None
    output = output_folder(recovery)
    files = leave_as_killed_while_publishing(recovery, tiny_pair)
    store_file(file=files[0], source=output / files[0].path)
    assert published(model) is None
    assert not (output / files[0].path).exists()
    before = [blob_path(files[0].sha256), *(output / file.path for file in files[1:])]
    made = [path.stat().st_ino for path in before]

    run_recovery(recovery_id=recovery.pk)

    assert (Recovery.objects.get().state, Recovery.objects.get().attempts) == (RecoveryState.READY, 2)
    assert [blob_path(file.sha256).stat().st_ino for file in files] == made
    tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
    assert sha256(published_files(model)["model.safetensors"]) == tuned
    assert not output.exists()


def leave_as_killed_while_publishing(recovery: Recovery, pair: Path) -> list[StoredFile]:
    """Leave a recovery whose engine has finished, with the result in its row and an expired lease."""
    want_recovery(recovery=recovery)
    assert leases.claim(recovery_id=recovery.pk) is not None
    output = output_folder(recovery)
    output.parent.mkdir(parents=True)
    arguments = recover_arguments(recovery=recovery, base=pair / "base", diff=pair / "diff", target=output)
    subprocess.run([sys.executable, *arguments], cwd=settings.CHECKOUT, check=True, capture_output=True)
    files, facts = read_result(output)
    Recovery.objects.filter(pk=recovery.pk).update(
        manifest={"files": [file.to_json() for file in files], "engine": facts},
        stage="publishing",
        lease_until=timezone.now(),
    )
    return files


def test_lost_messages_are_made_good_by_beat(
    add_files_model: Callable[..., Any], grant: Callable[..., Any], weights_root: Path
) -> None:
    """No worker runs when access is granted, and the queue is emptied: beat alone delivers the weights."""
    from celery.contrib.testing.worker import start_worker

    from portal.celery import app

    model = add_files_model()
    given = grant(model, "ada")
    app.control.purge()
    with start_worker(
        app,
        pool="solo",
        perform_ping_check=False,
        queues=["default", "mail", "remote", "recovery"],
        shutdown_timeout=WORKER_ENDS,
    ):
        resume_work()
        wait_until(lambda: Delivery.objects.filter(grant=given, state=DeliveryState.READY).exists())
    assert published(model) is not None


def test_folders_that_a_killed_worker_left_are_removed_once_their_weights_are_ready(
    add_pair_model: Callable[..., Any], tiny_pair: Path, tmp_path: Path
) -> None:
    ready = run_now(add_pair_model("ai/ready"))
    planned = current_recovery(add_pair_model("ai/planned", copy_pair(tiny_pair, tmp_path / "copy")))
    assert planned is not None
    for recovery in (ready, planned):
        for folder in (output_folder(recovery), output_folder(recovery).with_name(f"{recovery.pk}.partial")):
            folder.mkdir(parents=True)
            (folder / "model.safetensors").write_bytes(b"half")
    assert remove_leftovers() == 2
    assert not output_folder(ready).exists()
    assert (output_folder(planned) / "model.safetensors").read_bytes() == b"half"
    assert remove_leftovers() == 0
