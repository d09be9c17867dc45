"""Commands of the image, compose.yaml and the documentation start from the checkout with a plain `python`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
CHECKS = {
    "celery": "--help",
    "gunicorn": "--check-config",
    "migrate": "--version",
}  # these end before anything is opened
HARMLESS = {
    "PATH": os.environ["PATH"],
    "DATABASE_URL": "postgres://x@//nonexistent/x",
    "REDIS_URL": "unix:///nonexistent",
    "SECRET_KEY": "none",
    "DJANGO_SETTINGS_MODULE": "portal.settings",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def commands() -> dict[str, list[str]]:
    image = (CHECKOUT / "docker" / "Dockerfile").read_text()
    found = {"Dockerfile": json.loads(image.rpartition("\nCMD ")[2])}
    services = yaml.safe_load((CHECKOUT / "docker" / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        if service["image"] == "gatehouse" and "command" in service:
            found[name] = service["command"]
    for page in sorted((CHECKOUT / "docs").glob("*.md")):
        lines = re.findall(r"^    (python .*portal/private\.py .*)$", page.read_text(), re.MULTILINE)
        found |= {f"{page.name}-{number}": shlex.split(line) for number, line in enumerate(lines)}
    return found


COMMANDS = commands()


def test_every_command_is_found() -> None:
    assert set(COMMANDS) == {
        "Dockerfile",
        "migrate",
        "worker-default",
        "worker-mail",
        "worker-remote",
        "beat",
        "worker-recovery",
        "operations.md-0",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_command_starts_from_the_checkout(name: str, tmp_path: Path) -> None:
    program, *arguments = COMMANDS[name]
    check = next(check for word, check in CHECKS.items() if word in arguments)
    said = subprocess.run(
        [sys.executable, *arguments, check], cwd=CHECKOUT, env=HARMLESS | {"GATEHOUSE_STATE": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (program, said.returncode, said.stderr) == ("python", 0, "")


@pytest.mark.parametrize(("options", "first"), [((), "the current folder"), (("-P",), "no folder of ours")])
def test_module_is_looked_for_where_python_m_does(
    tmp_path: Path, options: tuple[str, ...], first: str
) -> None:
    (tmp_path / "celery.py").write_text("print('the current folder')")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "celery.py").write_text("print('no folder of ours')")
    said = subprocess.run(
        [sys.executable, *options, CHECKOUT / "portal" / "private.py", "celery"], cwd=tmp_path,
        env=HARMLESS | {"PYTHONPATH": str(tmp_path / "elsewhere")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.stdout == f"{first}\n"
