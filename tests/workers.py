"""Celery workers as separate processes, on a test's database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

QUEUES = ("default", "mail", "remote", "recovery")


class Workers:
    """Starts a worker for each queue that a test names; its log is in `folder`."""

    def __init__(self, folder: Path, extra: Mapping[str, str]) -> None:
        database = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{connection.settings_dict['NAME']}"
        self.folder, self.environment = folder, os.environ | {"DATABASE_URL": database, **extra}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, queue: str, *, processes: int = 1, beat: bool = False) -> subprocess.Popen[bytes]:
        """Start a worker for this queue; with `beat` it also runs the scheduler."""
        command = [sys.executable, "-m", "celery", "-A", "portal.celery", "worker", "-Q", queue]
        clock = ["-B", "-s", str(self.folder / "beat")] if beat else []
        with (self.folder / f"{queue}.log").open("ab") as log:
            worker = subprocess.Popen(
                [*command, "-c", str(processes), "-n", f"{queue}@%h", "--without-mingle", *clock],
                stdout=log, stderr=log, env=self.environment, start_new_session=True,
            )  # fmt: skip
        self.started.append(worker)
        return worker


@contextmanager
def workers(folder: Path, extra: Mapping[str, str]) -> Generator[Workers]:
    """Empty the queues of earlier tests, and kill every worker at the end."""
    from portal.celery import app

    with app.connection_for_write() as broker:
        for queue in QUEUES:
            broker.default_channel.queue_purge(queue)
    running = Workers(folder, extra)
    yield running
    for worker in running.started:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
