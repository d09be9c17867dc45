"""A cancelled run stops at the next block, whatever long task it is busy with."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from model_ops.recovery.errors import Cancelled
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.columns import READ
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from model_ops.recovery.system.control import Control
from tests.model_ops.recovery import models, plain

BLOCK = 4 * 1024 * 1024


class CancelledAfter(Control):
    """A control that cancels the run as soon as this many bytes have been read."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def count(self, *, read=0, written=0):
        super().count(read=read, written=written)
        if self.bytes_read >= self.limit:
            self.cancel()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return a pair with embeddings of 32 MB in float16."""
    return plain.write_pair(tmp_path_factory.mktemp("pair"), vocab=16_000, hidden=1024, layers=1)


def test_mean_row_is_left_after_the_part_in_work(pair, tmp_path):
    control = CancelledAfter(1)
    with pytest.raises(Cancelled):
        execute(make_plan(*pair, Options(max_shard_size="70MB")), tmp_path / "out", jobs=1, control=control)
    assert control.bytes_read <= READ
    assert not list((tmp_path / "out.partial").glob("*.done.json"))


def test_hash_of_a_finished_shard_is_left_after_the_part_in_work(pair, tmp_path):
    plan = make_plan(*pair, Options(max_shard_size="70MB"))
    execute(plan, tmp_path / "out", only=[plan.shards[0].file])
    control = CancelledAfter(1)
    with pytest.raises(Cancelled):
        execute(plan, tmp_path / "out", jobs=1, control=control)
    assert control.bytes_read == BLOCK
    assert (tmp_path / f"out.partial/{plan.shards[0].file}.done.json").exists()


def test_check_of_the_base_is_left_after_the_block_in_work(pair, tmp_path):
    tuned = plain.write(tmp_path / "tuned", vocab=16_000, hidden=1024, layers=1, seed=3)
    plain.make_diff(pair[0], tuned, tmp_path / "diff")
    control = CancelledAfter(1)
    with pytest.raises(Cancelled):
        execute(make_plan(pair[0], tmp_path / "diff"), tmp_path / "out", jobs=1, control=control)
    assert control.bytes_read <= 2 * BLOCK
    assert control.bytes_written == 0
    assert not (tmp_path / "out").exists()


def test_copy_of_a_large_file_is_left_after_the_part_in_work(tmp_path):
    base, diff = plain.write_pair(tmp_path)
    (diff / "tokens.txt").write_bytes(bytes(5 * BLOCK))
    plan = make_plan(base, diff)
    execute(plan, tmp_path / "out", only=[plan.shards[0].file], run_id="ab")
    control = CancelledAfter((diff / "config.json").stat().st_size + 1)
    with pytest.raises(Cancelled):
        execute(plan, tmp_path / "out", run_id="ab", control=control)
    assert control.bytes_read == (diff / "config.json").stat().st_size + BLOCK
    assert not (tmp_path / "out").exists()
    assert execute(plan, tmp_path / "out", run_id="ab").bytes_written == 0
    assert (tmp_path / "out/tokens.txt").read_bytes() == bytes(5 * BLOCK)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_torch_is_imported_ends_there(pair, tmp_path, number):
    """A signal ends the process even during the import of torch, which here never finishes."""
    (tmp_path / "torch").mkdir()
    note = tmp_path / "importing"
    (tmp_path / "torch/__init__.py").write_text(f"open({str(note)!r}, 'w').close()\nwhile True: pass\n")
    arguments = ["recover", "--path_raw", pair[0], "--path_diff", pair[1], "--path_tuned", tmp_path / "out"]
    child = subprocess.Popen(
        [sys.executable, "-m", "model_ops.recovery", *map(str, arguments)],
        cwd=models.ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not note.exists() and child.poll() is None:
        time.sleep(0.01)
    for _ in range(3):
        child.send_signal(number)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 1
    assert errors == "The run was cancelled; finished shards are kept, and the same command resumes it.\n"
    assert not (tmp_path / "out").exists()


def test_plan_that_was_printed_is_not_taken_back(pair):
    """A signal after the end of the work changes nothing."""
    code = (
        "import os, signal, sys\nfrom model_ops.recovery.__main__ import run\n"
        f"sys.argv[1:] = {['plan', '--path_raw', str(pair[0]), '--path_diff', str(pair[1]), '--json']!r}\n"
        "status = run()\nos.kill(os.getpid(), signal.SIGTERM)\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=models.ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["action"] == "recover"
