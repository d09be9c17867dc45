"""Two real workers with one database, broker and weights folder finish a model even if one of them fails."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.db import connection

from access_requests.models import OutgoingMail
from model_ops.enums import DeliveryState, RecoveryState, ShardState
from model_ops.models import Delivery, Recovery, RecoveryShard, Revision
from model_ops.queries import current_recovery
from model_ops.services.recoveries.leases import LEASE
from model_ops.services.recoveries.resume import resume_work
from model_ops.services.recoveries.shards import FINISH_RECOVERY, RUN_SHARD
from model_ops.services.recoveries.weights import RUN_RECOVERY, start_recovery
from model_ops.services.recoveries.workspace import output_folder
from tests.model_ops.conftest import copy_pair, engines, published_files, sha256
from tests.waiting import wait_until

SMALL = {"max_shard_size": "1MB"}  # three shards of the tiny pair
NAMES = ("one@tests", "two@tests")


class Workers:
    """Worker processes by name, all with the same state folder."""

    def __init__(self, state: Path) -> None:
        self.state, self.processes = state, dict[str, subprocess.Popen[bytes]]()

    def start(self, name: str) -> None:
        server = os.environ["DATABASE_URL"].rpartition("/")[0]
        environment = os.environ | {
            "DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}",
            "GATEHOUSE_STATE": str(self.state),
            "GATEHOUSE_SHARED_WEIGHTS": "1",
        }
        command = [sys.executable, "-m", "celery", "-A", "portal.celery", "worker", "-n", name, "-c", "1"]
        options = ["-Q", "default,mail,remote,recovery", "-l", "INFO", "--without-mingle", "--without-gossip"]
        with (self.state / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*command, *options], stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait_ready(self) -> None:
        def answer() -> bool:
            return {name for reply in current_app.control.ping(timeout=2) for name in reply} >= set(
                self.processes
            )

        wait_until(answer, seconds=200)

    def kill(self, name: str) -> None:
        """Kill the worker, its pool and its engine, as if the machine had failed."""
        process = self.processes.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def workers(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Generator[Workers]:
    """Both workers, shared by all tests here because they start slowly."""
    current_app.control.purge()
    started = Workers(tmp_path_factory.mktemp("workers"))
    with django_db_blocker.unblock():
        for name in NAMES:
            started.start(name)
    started.wait_ready()
    yield started
    for name in list(started.processes):
        started.kill(name)


@pytest.fixture
def weights_root(settings: Any, workers: Workers) -> Path:
    """The folder that both workers share with the test."""
    settings.WEIGHTS_ROOT = workers.state / "weights"
    return settings.WEIGHTS_ROOT


@pytest.fixture
def add_model(add_pair_model: Callable[..., Any]) -> Callable[..., tuple[Any, Recovery]]:
    """`add_model()`: add a model of three shards; return it and its recovery."""

    def add(**fields: Any) -> tuple[Any, Recovery]:
        model = add_pair_model(options=SMALL, **fields)
        recovery = current_recovery(model)
        assert recovery is not None
        return model, recovery

    return add


def state_of(recovery: Recovery) -> str:
    recovery.refresh_from_db()
    return recovery.state


def stop_engines(output: Path) -> str:
    """Stop the engines that write there, and return the file that one is making, or "" for none."""
    file = ""
    for pid in engines(output):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                file = Path(f"/proc/{pid}/cmdline").read_text().partition("--only=")[2].rstrip("\0")
    return file


def let_engines_go_on(output: Path) -> None:
    for pid in engines(output):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGCONT)


def made_by_one_process(pair: Path, target: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the files that a plain `recover` writes."""
    folders = ["--path_raw", pair / "base", "--path_diff", pair / "diff", "--path_tuned", target]
    command = [
        "-m",
        "model_ops.recovery",
        "recover",
        *folders,
        "--dtype",
        "bfloat16",
        "--max-shard-size",
        "1MB",
    ]
    subprocess.run(
        [sys.executable, *map(str, command)], cwd=django_settings.CHECKOUT, check=True, capture_output=True
    )
    return {path.name: sha256(path) for path in target.iterdir() if path.name != "weights.manifest.json"}


def test_both_make_what_one_would_and_second_messages_change_nothing(
    workers: Workers,
    add_model: Callable[..., tuple[Any, Recovery]],
    grant: Callable[..., Any],
    tiny_pair: Path,
    tmp_path: Path,
) -> None:
    model, recovery = add_model()
    given = grant(model, "ada")
    shards = wait_until(lambda: list(recovery.shards.all()))

    def both_are_at_it() -> bool:
        stop_engines(output_folder(recovery))
        running = recovery.shards.filter(state=ShardState.RUNNING)
        return set(running.values_list("worker", flat=True)) == set(NAMES)

    wait_until(both_are_at_it)
    messages = [(RUN_SHARD, shard.pk) for shard in shards]
    for task, pk in [*messages, (FINISH_RECOVERY, recovery.pk), (RUN_RECOVERY, recovery.pk)]:
        current_app.send_task(task, args=(pk,))
    let_engines_go_on(output_folder(recovery))
    wait_until(lambda: state_of(recovery) == RecoveryState.READY)

    done = list(recovery.shards.values_list("state", "attempts", "worker"))
    assert {(state, attempts) for state, attempts, _ in done} == {(ShardState.DONE, 1)}
    assert {worker for _, _, worker in done} == set(NAMES)
    assert (recovery.attempts, recovery.bytes_done) == (1, recovery.bytes_total)
    expected = made_by_one_process(tiny_pair, tmp_path / "plain")
    published = {path: sha256(file) for path, file in published_files(model).items()}
    assert {path: published[path] for path in expected} == expected
    assert Revision.objects.filter(has_weights=True).count() == 1
    wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.READY)
    assert OutgoingMail.objects.filter(key=f"ready:{given.pk}").count() == 1
    assert not list(output_folder(recovery).parent.glob("*.partial"))


def test_one_shard_that_fails_fails_the_recovery_and_nothing_is_visible(
    workers: Workers,
    add_model: Callable[..., tuple[Any, Recovery]],
    grant: Callable[..., Any],
    tiny_pair: Path,
    tmp_path: Path,
) -> None:
    pair = copy_pair(tiny_pair, tmp_path / "pair")
    weights = pair / "diff" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + struct.pack("<f", float("nan")))
    model, recovery = add_model(pair=pair)
    given = grant(model, "ada")

    wait_until(lambda: state_of(recovery) == RecoveryState.FAILED)

    assert recovery.error.endswith(
        "would hold 1 value(s) that are NaN or infinite, so nothing was made; "
        "--non-finite report makes the weights nevertheless."
    )
    wait_until(lambda: not engines(output_folder(recovery)))
    wait_until(lambda: not recovery.shards.filter(state=ShardState.RUNNING).exists())
    assert list(recovery.shards.exclude(error="").values_list("error", flat=True)) == [recovery.error]
    assert Revision.objects.filter(has_weights=True).count() == 0
    assert not output_folder(recovery).exists()
    wait_until(lambda: Delivery.objects.get(grant=given).state == DeliveryState.FAILED)
    assert OutgoingMail.objects.filter(key__startswith="weights-failed:").count() == 1


def test_worker_killed_in_the_middle_of_a_shard_is_made_good_by_the_other(
    workers: Workers, add_model: Callable[..., tuple[Any, Recovery]], tiny_pair: Path, tmp_path: Path
) -> None:
    model, recovery = add_model()
    start_recovery(recovery=recovery)
    file = wait_until(lambda: stop_engines(output_folder(recovery)))
    shard = recovery.shards.get(file=file)

    workers.kill(shard.worker)

    assert shard.state == ShardState.RUNNING
    let_engines_go_on(output_folder(recovery))
    recovery.shards.filter(worker=shard.worker, state=ShardState.RUNNING).update(lease_until=past(shard))
    wait_until(lambda: resume_work() or state_of(recovery) == RecoveryState.READY)

    shard.refresh_from_db()
    assert (shard.attempts, shard.worker in workers.processes) == (2, True)
    assert (recovery.attempts, Revision.objects.filter(has_weights=True).count()) == (1, 1)
    expected = made_by_one_process(tiny_pair, tmp_path / "plain")
    assert {
        path: sha256(file) for path, file in published_files(model).items() if path in expected
    } == expected


def past(shard: RecoveryShard) -> Any:
    """Return a lease end in the past, one lease earlier than the current one."""
    assert shard.lease_until is not None
    return shard.lease_until - LEASE
