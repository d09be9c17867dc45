"""The docstring of each folder lists exactly its modules and sub-folders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNLISTED = {"management", "commands", "migrations", "templatetags"}  # whose names and layout come from Django
LINE = re.compile(r"^(\w+) {2,}\S", re.M)


def folders() -> list[Path]:
    """Return every folder of Python modules in the three rooms, except those laid out by Django."""
    found = [
        path.parent
        for room in ("access_requests", "model_ops", "portal")
        for path in (ROOT / room).rglob("__init__.py")
    ]
    return sorted(folder for folder in found if not UNLISTED.intersection(folder.relative_to(ROOT).parts))


def contents_of(folder: Path) -> set[str]:
    """Return the names of a folder's modules and of its sub-folders that hold modules."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")} - UNLISTED


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_docstring_lists_the_folder(folder: Path) -> None:
    """Each module and sub-folder has one line: its name, two or more spaces, and what it holds."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    listed = LINE.findall(docstring)
    assert sorted(listed) == sorted(contents_of(folder))
