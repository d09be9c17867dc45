"""Folders and processes for the launcher's tests; each test runs its own servers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portal.embedded import servers, wipe_servers

CHECKOUT = Path(__file__).resolve().parents[3]
PORTAL_SETTINGS = (
    "DATABASE_URL",
    "REDIS_URL",
    "GATEHOUSE_URL",
    "SECRET_KEY",
    "GATEHOUSE_STATE",
    "GATEHOUSE_RUN",
)


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the environment of a person at a terminal, without the test run's own portal."""
    kept = {name: value for name, value in os.environ.items() if name not in PORTAL_SETTINGS}
    return {**kept, "PYTHONPATH": str(CHECKOUT), **extra}


@pytest.fixture(scope="session")
def made_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder whose servers ran once; copying it is faster than creating one."""
    folder = tmp_path_factory.mktemp("made") / "state"
    with servers(folder, fsync=False):
        pass
    return folder


@pytest.fixture
def state(tmp_path: Path, made_state: Path) -> Iterator[Path]:
    folder = copy_state(made_state, tmp_path / "state")
    yield folder
    wipe_servers(folder)


def copy_state(made: Path, target: Path) -> Path:
    shutil.copytree(made, target, ignore=shutil.ignore_patterns("*.sock"))
    return target


@pytest.fixture
def python_process() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a call that runs Python code in its own process; those still running at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-P", "-c", code, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=clean_environment(**environment),
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()
