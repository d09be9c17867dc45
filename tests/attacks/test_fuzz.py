"""A hundred thousand random pairs of folders (`-m slow`), and two thousand of them in every run.

`fuzzing` says what each must satisfy; `python -m tests.attacks.fuzzing FOLDER COUNT SEED` runs any part
alone.
"""

import json
import subprocess
import sys

import pytest

from tests.attacks.kit import ROOT

pytest.importorskip("torch", reason="some of the plans are carried out")
pytest.importorskip("hypothesis", reason="it draws the seeds")
BLOCK = 10_000


def fuzz(folder, count, seed):
    command = [sys.executable, "-m", "tests.attacks.fuzzing", str(folder), str(count), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr[-4000:]}\nThe input is in {folder}/world/finding."
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["inputs"] == count
    assert min(facts["refused"], facts["planned"], facts["made"]) > count // 100
    return facts


def test_two_thousand_pairs_are_planned_or_refused_and_nothing_else(tmp_path):
    assert fuzz(tmp_path, 2000, 0)["kinds_of_refusal"] > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(1, 11))
def test_a_hundred_thousand_pairs_are_planned_or_refused_and_nothing_else(tmp_path, block):
    fuzz(tmp_path, BLOCK, block)
