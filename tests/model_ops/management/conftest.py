"""Run management commands as an operator does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import execute_from_command_line


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the object on the single line of standard output."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def manage(
    transactional_db: None,
    weights_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Said]:
    """`manage("recoveries", "--json")`: run a command as `manage.py` does, in this process."""

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["manage.py", *words])
        capsys.readouterr()
        status = 0
        try:
            execute_from_command_line(sys.argv)
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run
