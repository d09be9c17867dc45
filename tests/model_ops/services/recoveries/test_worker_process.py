"""A real worker process with beat loses nothing if it is killed or loses its broker or database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.db import connection
from django.test import Client
from django.utils import timezone

from access_requests.enums import MailState, RequestState
from access_requests.models import Event, Grant, OutgoingMail
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.roles import assign_role
from model_ops.enums import DeliveryState, RecoveryState, WaitsFor
from model_ops.models import Delivery, Recovery, Revision
from model_ops.queries import current_recovery, published
from model_ops.services.recoveries.weights import cancel_recovery, retry, start_recovery
from model_ops.services.recoveries.workspace import output_folder
from tests.conftest import TULU_CARD
from tests.model_ops.conftest import engines, published_files, sha256
from tests.small_disk import clear, fill, small_disk
from tests.waiting import wait_until


@pytest.fixture
def weights_root(settings: Any, tmp_path: Path) -> Path:
    """The store in the state folder of the worker's process."""
    settings.WEIGHTS_ROOT = tmp_path / "state" / "weights"
    return settings.WEIGHTS_ROOT


@pytest.fixture
def start_worker(
    weights_root: Path, tmp_path: Path, transactional_db: None
) -> Generator[Callable[[], subprocess.Popen[bytes]]]:
    """`start_worker()`: start a worker of both queues with beat on this test's database and store."""
    from portal.celery import app

    app.control.purge()
    workers: list[subprocess.Popen[bytes]] = []
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    database = f"{server}/{connection.settings_dict['NAME']}"
    environment = os.environ | {"DATABASE_URL": database, "GATEHOUSE_STATE": str(tmp_path / "state")}

    def start() -> subprocess.Popen[bytes]:
        log = (tmp_path / "worker.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "portal.celery",
            "worker",
            "-Q",
            "default,mail,remote,recovery",
        ]
        options = ["-c", "2", "-B", "-s", str(tmp_path / "beat"), "-l", "INFO", "--without-mingle"]
        with log:
            worker = subprocess.Popen(
                [*command, *options], stdout=log, stderr=log, env=environment, start_new_session=True
            )
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        kill(worker)


def kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill the worker and its pool, as if the machine had failed; the engine must notice by itself."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def test_worker_killed_in_a_recovery_is_made_good(
    start_worker: Callable[[], Any],
    add_pair_model: Callable[..., Any],
    tiny_pair: Path,
    grant: Callable[..., Any],
) -> None:
    model = add_pair_model()
    recovery = current_recovery(model)
    assert recovery is not None
    output = output_folder(recovery)
    worker = start_worker()
    given = grant(model, "ada")
    wait_until(lambda: engines(output))

    os.kill(worker.pid, signal.SIGSTOP)  # so that nothing is cleaned up while the rest is killed
    kill(worker)

    wait_until(lambda: not engines(output))
    recovery.refresh_from_db()
    assert recovery.state == RecoveryState.RUNNING
    assert published(model) is None
    assert not list(output.parent.parent.glob("blobs/*/[0-9a-f]*.safetensors"))
    start_worker()
    wait_until(lambda: Recovery.objects.get().state == RecoveryState.READY)

    assert Recovery.objects.get().attempts == 2
    files = published_files(model)
    assert sha256(files["model.safetensors"]) == sha256(tiny_pair / "tuned" / "model.safetensors")
    assert {path.name: sha256(path) for path in files.values()} == {
        path.name: path.name for path in files.values()
    }
    wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.READY)
    assert OutgoingMail.objects.filter(key=f"ready:{given.pk}").count() == 1
    assert Revision.objects.filter(has_weights=True).count() == 1


def test_cancelled_in_mid_run_makes_nothing_until_it_is_tried_again(
    start_worker: Callable[[], Any],
    add_pair_model: Callable[..., Any],
    make_person: Callable[..., Any],
    tiny_pair: Path,
    grant: Callable[..., Any],
) -> None:
    boss = make_person("boss", is_superuser=True)
    model = add_pair_model()
    recovery = current_recovery(model)
    assert recovery is not None
    start_worker()
    given = grant(model, "ada")
    engine = wait_until(lambda: engines(output_folder(recovery)))
    os.kill(engine[0], signal.SIGSTOP)  # so that only the worker can end it

    cancelled = cancel_recovery(recovery=recovery, actor=boss)

    assert (cancelled.state, cancelled.wanted_at, cancelled.lease_owner) == (
        RecoveryState.CANCELLED,
        None,
        "",
    )
    wait_until(lambda: not engines(output_folder(recovery)))
    event = Event.objects.get(kind="recovery.cancelled")
    assert (event.actor, event.model, event.data) == (boss, model, {"recovery": recovery.pk})
    assert Recovery.objects.get().state == RecoveryState.CANCELLED
    assert Delivery.objects.get(grant=given).state == DeliveryState.WAITING
    assert Revision.objects.filter(has_weights=True).count() == 0

    retry(recovery=recovery, actor=boss)

    wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.READY)
    assert (Recovery.objects.get().state, Recovery.objects.get().attempts) == (RecoveryState.READY, 2)
    tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
    assert sha256(published_files(model)["model.safetensors"]) == tuned
    assert OutgoingMail.objects.filter(key__contains="failed").count() == 0


def test_approval_without_a_broker_stands_and_is_delivered_when_it_is_back(
    start_worker: Callable[[], Any],
    add_files_model: Callable[..., Any],
    make_person: Callable[..., Any],
    submit: Callable[..., Any],
    client: Client,
    valkey_server: Any,
) -> None:
    model = add_files_model(card=TULU_CARD, licences=[LicenceText("licence.txt", "en", "Be good.\n")])
    ada, rita = make_person("ada"), make_person("rita")
    assign_role(model=model, user=rita, role="reviewer")
    Authenticator.objects.create(user=rita, type=Authenticator.Type.TOTP, data={})
    request = submit(ada, model)
    client.force_login(rita)
    start_worker()
    valkey_server.stop()
    try:
        page = f"/admin/access_requests/accessrequest/{request.pk}/"
        assert client.get(f"{page}change/").status_code == 200
        assert client.post(f"{page}decide/", {"outcome": "approved", "submission": "1"}).status_code == 302
        request.refresh_from_db()
        assert request.state == RequestState.APPROVED
        given = Grant.objects.get(user=ada)
        assert given.is_live()
        assert Delivery.objects.get(grant=given).state == DeliveryState.WAITING
    finally:
        valkey_server.start()
        valkey_server.wait_ready()

    wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.READY)
    assert published(model) is not None
    decided = OutgoingMail.objects.get(to=ada.email, key__startswith="decision:")
    wait_until(lambda: OutgoingMail.objects.get(pk=decided.pk).state == MailState.SENT)


def test_recovery_outlives_a_database_restart(
    start_worker: Callable[[], Any],
    add_pair_model: Callable[..., Any],
    tiny_pair: Path,
    postgres_server: Any,
) -> None:
    model = add_pair_model()
    recovery = current_recovery(model)
    assert recovery is not None
    start_worker()
    start_recovery(recovery=recovery)
    wait_until(lambda: engines(output_folder(recovery)))

    connection.close()
    connection.close_pool()
    postgres_server.stop()
    postgres_server.start()
    postgres_server.wait_ready()

    wait_until(lambda: Recovery.objects.get().state == RecoveryState.READY)
    tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
    assert sha256(published_files(model)["model.safetensors"]) == tuned


@pytest.mark.slow
def test_recovery_on_a_full_disk_goes_on_by_itself_when_there_is_room(
    start_worker: Callable[[], Any],
    weights_root: Path,
    add_pair_model: Callable[..., Any],
    make_person: Callable[..., Any],
    tiny_pair: Path,
    grant: Callable[..., Any],
    client: Client,
    tmp_path: Path,
) -> None:
    """From the grant to the email, nobody has to do anything except make room."""
    with small_disk(tmp_path / "disk", "size=24m") as disk:
        weights_root.parent.mkdir()
        weights_root.symlink_to(disk)
        owner = make_person("owner")
        model = add_pair_model(owner=owner)
        fill(disk, leave=200_000)
        start_worker()
        given = grant(model, "ada")
        wait_until(lambda: Recovery.objects.get().waiting_for == WaitsFor.ROOM)
        looked = Recovery.objects.get().retry_at
        wait_until(lambda: Recovery.objects.get().retry_at > looked)  # beat has checked, and started nothing
        assert Recovery.objects.get().attempts == 1
        client.force_login(given.user)
        page = client.get("/ai/tiny/access").content.decode()
        assert "disk has no room for these weights at the moment" in page
        assert "You don't have to do anything" in page

        clear(disk)

        wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.READY)
        assert (Recovery.objects.get().state, Recovery.objects.get().attempts) == (RecoveryState.READY, 2)
        tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
        assert sha256(published_files(model)["model.safetensors"]) == tuned
        assert [mail.to for mail in OutgoingMail.objects.filter(key__startswith="recovery-waits")] == [
            owner.email
        ]
        assert OutgoingMail.objects.filter(key__startswith="ready:").count() == 1
        assert OutgoingMail.objects.filter(key__contains="failed").count() == 0


@pytest.mark.slow
def test_engine_killed_twice_in_a_row_finishes_by_itself(
    start_worker: Callable[[], Any],
    add_pair_model: Callable[..., Any],
    tiny_pair: Path,
    grant: Callable[..., Any],
) -> None:
    model = add_pair_model()
    recovery = current_recovery(model)
    assert recovery is not None
    output = output_folder(recovery)
    start_worker()
    given = grant(model, "ada")
    for tries in (1, 2):
        for pid in wait_until(lambda: engines(output)):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda tries=tries: Recovery.objects.get().tries == tries)
    assert Recovery.objects.get().waiting_for == WaitsFor.AGAIN

    wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.READY, seconds=300)

    tuned = sha256(tiny_pair / "tuned" / "model.safetensors")
    assert sha256(published_files(model)["model.safetensors"]) == tuned
    assert OutgoingMail.objects.filter(key__contains="failed").count() == 0


def test_worker_that_starts_tries_at_once_what_waits(
    start_worker: Callable[[], Any], add_files_model: Callable[..., Any]
) -> None:
    model = add_files_model()
    later = timezone.now() + timedelta(hours=5)
    Recovery.objects.update(wanted_at=timezone.now(), waiting_for=WaitsFor.AGAIN, retry_at=later, tries=4)

    start_worker()

    wait_until(lambda: Recovery.objects.get().state == RecoveryState.READY)
    assert published(model) is not None
