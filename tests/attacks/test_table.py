"""The tables in both README.md files are complete."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("folder", [HERE, HERE / "portal"], ids=["engine", "portal"])
def test_table_names_every_file_of_attacks(folder):
    named = re.findall(r"^\| `(test_\w+)` \|", (folder / "README.md").read_text(), re.MULTILINE)
    there = {path.stem for path in folder.glob("test_*.py")} - {"test_table"}
    assert (set(named), len(named)) == (there, len(there))
