"""A worker whose database stops logs one line per task, and does what was due once it is back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils import timezone

from access_requests.enums import MailState
from access_requests.models import OutgoingMail
from portal.embedded.postgres import Postgres
from tests.model_ops.services.recoveries.test_worker_process import start_worker, weights_root
from tests.portal.database.test_away import stopped
from tests.waiting import wait_until

__all__ = ["start_worker", "weights_root"]


def test_tasks_without_a_database_are_lines_and_nothing_is_lost(
    start_worker: Callable[[], Any],
    tmp_path: Path,
    make_person: Callable[..., Any],
    postgres_server: Postgres,
) -> None:
    ada, log = make_person("ada"), tmp_path / "worker.log"
    start_worker()
    wait_until(lambda: " ready." in log.read_text())
    OutgoingMail.objects.create(
        key="due", to=ada.email, subject="Due", text="Now.", next_try_at=timezone.now()
    )
    connection.close()
    connection.close_pool()
    with stopped(postgres_server):
        wait_until(lambda: "was left to its next time, by the database" in log.read_text())
    assert "Traceback" not in log.read_text()
    wait_until(lambda: OutgoingMail.objects.get(key="due").state == MailState.SENT)
