"""A real Chromium, a real server and a real worker on the test run's database and broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(live_server: Any, settings: Any, mail_through: Callable[..., None]) -> str:
    """Return the server's address, which the portal uses; emails go to the outbox."""
    mail_through("portal.outbox.OutboxBackend")
    settings.GATEHOUSE_URL = live_server.url
    return str(live_server.url)


@pytest.fixture
def worker(site: str, tmp_path: Path) -> Generator[None]:
    """Start a worker process the way the portal does, on the test database."""
    from django.db import connection

    from portal.celery import app

    app.control.purge()
    address, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    environment = {
        **os.environ,
        "DATABASE_URL": f"{address}/{connection.settings_dict['NAME']}",
        "GATEHOUSE_URL": site,
    }
    command = [sys.executable, "-m", "celery", "-A", "portal.celery:app", "worker"]
    command += ["-B", "-s", str(tmp_path / "beat"), "-c", "1", "-l", "INFO"]
    command += ["-Q", "default,mail,remote,recovery"]
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
