"""A real Chromium, a real server and a real worker on the test run's database and broker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser that CHROMIUM names, else one on PATH. Without one the test skips, and fails where GATEHOUSE_REQUIRE_BROWSER is set."""
    found = next(
        (path for name in [os.environ.get("CHROMIUM") or "", *NAMES] if (path := shutil.which(name))), ""
    )
    if not found and os.environ.get("GATEHOUSE_REQUIRE_BROWSER") == "1":
        pytest.fail(
            f"GATEHOUSE_REQUIRE_BROWSER is set and no browser is on PATH: install one of {', '.join(NAMES)}."
        )
    if not found:
        pytest.skip(f"no browser on PATH: install one of {', '.join(NAMES)}")
    return found


@pytest.fixture
def browser(chromium: str, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """Chromium without a window. Playwright's loop runs in this thread, which Django would take for async code."""
    sync_api = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


@pytest.fixture
def site(live_server: Any, settings: Any, mail_through: Callable[..., None]) -> str:
    """The server's address, known to itself; mails go to the outbox, as they do without a mail server."""
    mail_through("portal.outbox.OutboxBackend")
    settings.GATEHOUSE_URL = live_server.url
    return str(live_server.url)


@pytest.fixture
def worker(site: str, tmp_path: Path) -> Generator[None]:
    """A worker process as the portal starts it, on the test database."""
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
    command += ["-B", "-s", str(tmp_path / "beat"), "-Q", "default,recovery", "-c", "1", "-l", "INFO"]
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def wait_until(what: Any, sentence: str, seconds: float = 60) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.3)
    pytest.fail(f"{sentence}: not within {seconds} s")
