"""The table in README.md is complete."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_table_names_every_file_of_attacks():
    named = re.findall(r"^\| `(test_\w+)` \|", (HERE / "README.md").read_text(), re.MULTILINE)
    there = {path.stem for path in HERE.glob("test_*.py")} - {"test_table"}
    assert (set(named), len(named)) == (there, len(there))
