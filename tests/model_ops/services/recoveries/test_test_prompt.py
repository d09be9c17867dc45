"""A test prompt is run on published weights, and they stay published whatever the result is."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from access_requests.errors import Conflict
from access_requests.models import Event, OutgoingMail
from model_ops.enums import DeliveryState, RecoveryState, SmokeState
from model_ops.models import Delivery, Recovery, SmokeRun
from model_ops.queries import current_recovery, published
from model_ops.recovery.formats.git_ids import blob_id
from model_ops.recovery.smoke.answer import PROMPT
from model_ops.services.recoveries.child_process import Ended, run_child
from model_ops.services.recoveries.resume import resume_work
from model_ops.services.recoveries.run import output_folder
from model_ops.services.recoveries.test_prompt import ask_again, expect_answer, read_outcome, smoke_recovery
from model_ops.services.store.blobs import blob_path, store_file
from model_ops.services.store.git_objects import StoredFile
from tests.model_ops.conftest import WORKER_ENDS, sha256
from tests.threads import once_main_thread_waits_in
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def switched_on(settings: Any) -> None:
    settings.GATEHOUSE_SMOKE = True


@pytest.fixture
def made(
    add_pair_model: Callable[..., Any], weights_root: Path, tiny_pair: Path, tmp_path: Path
) -> Callable[..., Recovery]:
    """`made(without="tokenizer.json")`: return a recovery as a worker leaves it, its files in the store."""

    def make(without: str = "") -> Recovery:
        recovery = current_recovery(add_pair_model())
        assert recovery is not None
        files = []
        for path in sorted((tiny_pair / "tuned").iterdir()):
            if path.name != without:
                copy = Path(shutil.copy(path, tmp_path / path.name))
                files.append(
                    StoredFile(path.name, sha256(copy), blob_id(path.read_bytes()), copy.stat().st_size)
                )
                store_file(file=files[-1], source=copy)
        Recovery.objects.filter(pk=recovery.pk).update(
            state=RecoveryState.READY, manifest={"files": [file.to_json() for file in files]}
        )
        recovery.refresh_from_db()
        return recovery

    return make


def test_weights_are_asked_after_they_are_ready(
    add_pair_model: Callable[..., Any], grant: Callable[..., Any], worker: None
) -> None:
    model = add_pair_model()
    given = grant(model, "ada")

    wait_until(lambda: SmokeRun.objects.filter(state=SmokeState.ANSWERED).exists(), seconds=120)

    assert published(model) is not None
    assert Delivery.objects.get(grant=given).state == DeliveryState.READY
    run, recovery = SmokeRun.objects.get(), Recovery.objects.get()
    assert recovery.finished_at is not None
    assert run.finished_at is not None
    assert run.finished_at > recovery.finished_at
    known = {name: run.answer[name] for name in ("prompt", "finite", "dtype", "template")}
    assert known == {"prompt": PROMPT, "finite": True, "dtype": "bfloat16", "template": "Tulu's format"}
    assert (run.error, run.ends_by) == ("", None)
    event = Event.objects.get(kind="recovery.smoked")
    assert (event.model, event.data) == (model, {"recovery": recovery.pk, "outcome": "answered"})
    assert not list(output_folder(recovery).parent.glob("*.smoke"))
    assert {blob_path(file["sha256"]).stat().st_nlink for file in recovery.manifest["files"]} == {1}


def test_weights_that_cannot_be_asked_are_out_all_the_same(made: Callable[..., Recovery]) -> None:
    recovery = made(without="tokenizer.json")
    ask_again(recovery=recovery)

    smoke_recovery(recovery_id=recovery.pk)

    run = SmokeRun.objects.get()
    assert (run.state, run.answer) == (SmokeState.REFUSED, {})
    assert run.error.startswith("There is no tokenizer (one of ")
    recovery.refresh_from_db()
    assert (recovery.state, recovery.error) == (RecoveryState.READY, "")
    assert OutgoingMail.objects.count() == 0


def test_contents_missing_in_the_store_are_one_sentence(made: Callable[..., Recovery]) -> None:
    recovery = made()
    ask_again(recovery=recovery)
    gone = blob_path(recovery.manifest["files"][0]["sha256"])
    gone.unlink()

    smoke_recovery(recovery_id=recovery.pk)

    run = SmokeRun.objects.get()
    assert run.state == SmokeState.FAILED
    assert run.error == f"The weights could not be prepared ({gone}): No such file or directory."


def test_answer_that_takes_too_long_is_stopped(made: Callable[..., Recovery]) -> None:
    recovery = made()
    ask_again(recovery=recovery)

    smoke_recovery(recovery_id=recovery.pk, limit=0)

    run = SmokeRun.objects.get()
    assert (run.state, run.error) == (SmokeState.FAILED, "There was no answer within 0 seconds.")


SAID = {"prompt": "Who?", "answer": "a\0b", "tokens": 3, "finite": False, "hints": ["\0"], "more": 1}
KEPT = {"prompt": "Who?", "answer": "a\ufffdb", "tokens": 3, "finite": False, "hints": ["\ufffd"]}


@pytest.mark.parametrize(
    ("ended", "state", "fields"),
    [
        (Ended(0, False, "", SAID), SmokeState.ANSWERED, {"answer": KEPT}),
        (
            Ended(1, False, "They are broken.", SAID),
            SmokeState.FAILED,
            {"error": "They are broken.", "answer": KEPT},
        ),
        (Ended(1, False, ""), SmokeState.FAILED, {"error": "It ended with status 1.", "answer": {}}),
        (Ended(2, False, "No room."), SmokeState.REFUSED, {"error": "No room.", "answer": {}}),
        (
            Ended(-9, False, ""),
            SmokeState.FAILED,
            {"error": "The run was killed by the system (signal 9), most likely because memory ran out."},
        ),
        (Ended(-9, True, ""), SmokeState.FAILED, {"error": "There was no answer within 600 seconds."}),
    ],
)
def test_every_end_of_the_engine_is_a_state_and_a_sentence(
    ended: Ended, state: SmokeState, fields: dict[str, Any]
) -> None:
    assert read_outcome(ended, 600) == (state, fields)


def test_second_message_and_a_run_that_was_cut_off_do_nothing(made: Callable[..., Recovery]) -> None:
    recovery = made(without="tokenizer.json")
    ask_again(recovery=recovery)
    smoke_recovery(recovery_id=recovery.pk)
    before = SmokeRun.objects.values().get()
    smoke_recovery(recovery_id=recovery.pk)
    assert SmokeRun.objects.values().get() == before

    SmokeRun.objects.update(state=SmokeState.RUNNING, ends_by=timezone.now() - timedelta(seconds=1))
    smoke_recovery(recovery_id=recovery.pk)
    run = SmokeRun.objects.get()
    assert (run.state, run.was_cut_off) == (SmokeState.RUNNING, True)
    assert ask_again(recovery=recovery).state == SmokeState.WAITING


def test_worker_that_is_told_to_go_gives_it_back(made: Callable[..., Recovery]) -> None:
    recovery = made()
    ask_again(recovery=recovery)
    before = signal.signal(signal.SIGALRM, lambda *_: sys.exit("told to go"))
    try:
        with (
            once_main_thread_waits_in(run_child, lambda: os.kill(os.getpid(), signal.SIGALRM)),
            pytest.raises(SystemExit),
        ):
            smoke_recovery(recovery_id=recovery.pk)
    finally:
        signal.signal(signal.SIGALRM, before)
    run = SmokeRun.objects.get()
    assert (run.state, run.ends_by, run.error) == (SmokeState.WAITING, None, "")
    assert Event.objects.filter(kind="recovery.smoked").count() == 0


def test_lost_message_is_made_good_by_beat(made: Callable[..., Recovery]) -> None:
    from celery.contrib.testing.worker import start_worker

    from portal.celery import app

    recovery = made(without="tokenizer.json")
    ask_again(recovery=recovery)
    app.control.purge()
    with start_worker(
        app,
        pool="solo",
        perform_ping_check=False,
        queues=["default", "mail", "remote", "recovery"],
        shutdown_timeout=WORKER_ENDS,
    ):
        resume_work()
        wait_until(lambda: SmokeRun.objects.filter(state=SmokeState.REFUSED).exists())


def test_nothing_is_expected_where_it_cannot_or_shall_not_be(
    made: Callable[..., Recovery], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = made()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)  # as if it was not installed
        expect_answer(recovery=recovery)
        assert SmokeRun.objects.count() == 0
        ask_again(recovery=recovery)
        smoke_recovery(recovery_id=recovery.pk)
    run = SmokeRun.objects.get()
    assert (run.state, run.error) == (
        SmokeState.REFUSED,
        "transformers is not installed on this worker, so the test prompt did not run.",
    )
    run.delete()
    settings.GATEHOUSE_SMOKE = False
    expect_answer(recovery=recovery)
    assert SmokeRun.objects.count() == 0
    with pytest.raises(Conflict, match=rf"^Recovery {recovery.pk} has no weights that can be tested here\.$"):
        ask_again(recovery=recovery)


def test_weights_are_asked_again_by_their_owner_once_at_a_time(
    made: Callable[..., Recovery], make_person: Callable[..., Any]
) -> None:
    recovery, boss = made(), make_person("boss", is_superuser=True)
    expect_answer(recovery=recovery)
    SmokeRun.objects.update(state=SmokeState.ANSWERED, answer=KEPT, finished_at=timezone.now())

    run = ask_again(recovery=recovery, actor=boss)

    assert (run.state, run.answer, run.finished_at) == (SmokeState.WAITING, {}, None)
    event = Event.objects.get(kind="recovery.smoke_wanted")
    assert (event.actor, event.data) == (boss, {"recovery": recovery.pk})
    SmokeRun.objects.update(state=SmokeState.RUNNING, ends_by=timezone.now() + timedelta(minutes=1))
    with pytest.raises(Conflict, match="are already being tested"):
        ask_again(recovery=recovery, actor=boss)


def test_what_is_not_there_or_was_not_made_here_is_not_asked(
    add_pair_model: Callable[..., Any], add_files_model: Callable[..., Any]
) -> None:
    planned, copied = current_recovery(add_pair_model()), current_recovery(add_files_model())
    assert planned is not None
    assert copied is not None
    Recovery.objects.filter(pk=copied.pk).update(state=RecoveryState.READY)
    for recovery in (planned, copied):
        with pytest.raises(Conflict, match="has no weights that can be tested here"):
            ask_again(recovery=recovery)
