"""Beat's schedule is due at once, kept in memory, and harmless if two of them run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from access_requests.enums import MailState
from access_requests.models import DeviceCode, Event, GatedModel, Grant, OutgoingMail, RenderedCard
from access_requests.services import grants
from access_requests.services.oauth import codes
from model_ops.models import Download
from model_ops.services.uploads import staging
from portal.accounts.models import CaughtMail
from portal.celery import app
from portal.clock import Clock
from tests.access_requests.services.oauth.signing import begin, find
from tests.threads import all_at_once

AT_ONCE = 4


def test_everything_is_due_when_the_clock_starts_whatever_its_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    file.write_bytes(b"cut sh")
    os.utime(file, (0, 0))
    with closing(Clock(app, schedule_filename=str(file))) as clock:
        due = {name for name, entry in clock.schedule.items() if entry.is_due().is_due}
        assert due == set(app.conf.beat_schedule)
        clock.sign()
    assert file.stat().st_mtime > 0
    assert file.read_bytes() == b"cut sh"


ENDS = """
import django; django.setup()
import time
from portal import clock
from portal.celery import app
clock.HUNG_AFTER = 1
made = clock.Clock(app)
made.sign()
if {closes}:
    made.close()
time.sleep({seconds})
"""


@pytest.mark.parametrize(("closes", "seconds", "status"), [(True, 3, 0), (False, 60, 1)])
def test_clock_that_hangs_ends_its_process_and_one_that_was_closed_does_not(
    closes: bool, seconds: int, status: int
) -> None:
    code = ENDS.format(closes=closes, seconds=seconds)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "Timeout" in done.stderr) == (status, bool(status))


@pytest.fixture
def due(
    transactional_db: None,
    make_model: Callable[..., Any],
    make_person: Callable[..., Any],
    mail_through: Callable[..., None],
    settings: Any,
    tmp_path: Path,
) -> None:
    """Create something to do for every periodic task."""
    mail_through("portal.outbox.OutboxBackend")
    settings.GATEHOUSE_STATE = tmp_path / "state"
    settings.WEIGHTS_ROOT = tmp_path / "state" / "weights"
    settings.GATEHOUSE_ANCHOR_FILE = tmp_path / "state" / "anchors.log"
    model = make_model()
    past = timezone.now() - timedelta(days=8)
    ada = make_person("ada")
    given = grants.grant_access(model=model, email=ada.email, days=90, token_name="laptop")
    Grant.objects.filter(pk=given.grant.pk).update(starts_at=past - timedelta(days=1), ends_at=past)
    OutgoingMail.objects.all().delete()
    OutgoingMail.objects.create(key="waiting", to="ada@example.org", subject="Waiting", text="Hello.")
    missed = begin()
    codes.approve(code=find(missed, ada), user=ada, name="missed")
    DeviceCode.objects.update(expires_at=past)
    facts = {
        "request_id": "dead", "model_id": model.pk, "grant_id": None, "token_id": None, "user_id": None, "commit": "c" * 40,
        "path": "model.safetensors", "first_byte": 0, "bytes_asked": 100, "status": 200, "address": None, "client": "hf",
        "mode": "own", "started_at": past.isoformat(), "link_seconds": None,
    }  # fmt: skip
    journal = tmp_path / "state" / "downloads"
    journal.mkdir(parents=True)
    (journal / "other-1-aa.alive").touch()
    (journal / "other-1-aa.1.jsonl").write_text(json.dumps({"begin": facts}) + "\n")
    settings.WEIGHTS_ROOT.mkdir(parents=True)
    staging.stage_bytes(model_id=model.pk, content=b"left")
    old = time.time() - 8 * 24 * 3600
    for path in staging.root().rglob("*"):
        os.utime(path, (old, old))
    RenderedCard.objects.all().delete()
    GatedModel.objects.update(card_renderer=0)


def test_periodic_tasks_that_run_several_times_at_once_do_their_work_once(due: None, tmp_path: Path) -> None:
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        all_at_once(AT_ONCE, lambda _, task=app.tasks[entry["task"]]: task.run())
    assert Event.objects.filter(kind="grant.expired").count() == 1
    assert Event.objects.filter(kind="machine.signed_out").count() == 1
    assert not DeviceCode.objects.exists()
    assert RenderedCard.objects.count() == 1
    assert OutgoingMail.objects.get(key="waiting").state == MailState.SENT
    assert CaughtMail.objects.filter(subject="Waiting").count() == 1
    assert list(Download.objects.values_list("request_id", flat=True)) == ["dead"]
    assert [path for path in staging.root().rglob("*") if path.is_file()] == []
    assert len((tmp_path / "state" / "anchors.log").read_text().splitlines()) == 1
