"""After `kill -9` at any moment, the same command ends with the same files and leaves nothing else."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.model_ops.recovery import plain
from tests.model_ops.recovery.forks import ROOT, Forks

SHARDS, SMALL_SHARDS = "1MB", "90KB"


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return plain.write_pair(tmp_path_factory.mktemp("pair"), vocab=2000, hidden=512, layers=16)


@pytest.fixture(scope="module")
def whole(pair, tmp_path_factory):
    """Return every file that an undisturbed run leaves, including the manifest with its hashes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    plain.recover(*pair, out, max_shard_size=SHARDS)
    return plain.files_of(out)


def recover(pair, out, shards=SHARDS):
    return ("recover", "--path_raw", pair[0], "--path_diff", pair[1], "--max-shard-size", shards,
            "--path_tuned", out)  # fmt: skip


def assert_ends_whole(forks, pair, out, whole, shards=SHARDS):
    """Check that nothing incomplete was visible, and that the same command completes it."""
    assert not out.exists() or plain.files_of(out) == whole
    assert forks.run(*recover(pair, out, shards)) == (0, "")
    assert plain.files_of(out) == whole
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def seconds(forks, pair, tmp_path_factory):
    """Return how long an undisturbed run takes."""
    began = time.monotonic()
    assert forks.run(*recover(pair, tmp_path_factory.mktemp("undisturbed") / "out")) == (0, "")
    return time.monotonic() - began


@pytest.mark.parametrize("seed", range(5))
def test_kill_at_a_random_moment(forks, pair, whole, seconds, tmp_path, seed):
    pid = forks.start(*recover(pair, tmp_path / "out"))
    time.sleep(random.Random(seed).uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)
    assert forks.wait()[0] in {0, -signal.SIGKILL}
    assert_ends_whole(forks, pair, tmp_path / "out", whole)


def command(pair, out):
    return [sys.executable, "-m", "model_ops.recovery", *map(str, recover(pair, out)), "--json"]


@pytest.fixture(scope="module")
def command_seconds(pair, tmp_path_factory):
    """Return how long the command takes, and how much of that is its work."""
    arguments = command(pair, tmp_path_factory.mktemp("command") / "out")
    began = time.monotonic()
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, check=True)
    return time.monotonic() - began, json.loads(done.stdout)["seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_kill_of_the_command_itself_at_a_random_moment(pair, whole, command_seconds, tmp_path, seed):
    """Half of the kills come at any time after Python starts, half after the first finished file."""
    out, chance = tmp_path / "out", random.Random(seed)
    child = subprocess.Popen(command(pair, out), cwd=ROOT, stdout=subprocess.DEVNULL)
    while seed % 2 and child.poll() is None and not list(tmp_path.glob("out.partial/*.done.json")):
        time.sleep(0.001)
    time.sleep(chance.uniform(0, command_seconds[seed % 2]))
    child.kill()
    assert child.wait() in {0, -signal.SIGKILL}
    assert not out.exists() or plain.files_of(out) == whole
    subprocess.run(command(pair, out), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    assert plain.files_of(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def small_pair(tmp_path_factory):
    """Return a pair that makes three shards of a few kilobytes."""
    return plain.write_pair(tmp_path_factory.mktemp("small"), vocab=300, hidden=64, layers=8)


@pytest.fixture(scope="module")
def small_whole(small_pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("small whole") / "out"
    plain.recover(*small_pair, out, max_shard_size=SMALL_SHARDS)
    return plain.files_of(out)


def kill_at_step(forks, pair, whole, out, step):
    """Kill a run at this step, and check the next run; return whether the run got that far."""
    status, errors = forks.run(*recover(pair, out, SMALL_SHARDS), step=step)
    assert (status, errors) in {(0, ""), (-signal.SIGKILL, "")}
    assert_ends_whole(forks, pair, out, whole, SMALL_SHARDS)
    return status != 0


@pytest.mark.parametrize("step", [1, 20, 40, 60, 80, 100])
def test_kill_at_a_step_in_the_file_system(forks, small_pair, small_whole, tmp_path, step):
    kill_at_step(forks, small_pair, small_whole, tmp_path / "out", step)


@pytest.mark.slow
def test_kill_at_every_step_in_the_file_system(forks, small_pair, small_whole, tmp_path):
    step = 1
    while kill_at_step(forks, small_pair, small_whole, tmp_path / f"{step}/out", step):
        step += 1
    assert step > 100


def fail_at_step(forks, pair, whole, out, step, error):
    """Let this step of a run fail; check for one sentence or success, and that the next run completes it."""
    status, errors = forks.run(*recover(pair, out, SMALL_SHARDS), step=step, error=error)
    assert status in {0, 1, 2}
    assert errors.count("\n") == (status != 0)
    assert "Traceback" not in errors
    assert "unforeseen" not in errors
    assert "The operating system said" not in errors
    assert out.exists() == (status == 0)
    assert_ends_whole(forks, pair, out, whole, SMALL_SHARDS)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", [10, 30, 50, 70, 90])
def test_failure_of_a_step_in_the_file_system(forks, small_pair, small_whole, tmp_path, step, error):
    fail_at_step(forks, small_pair, small_whole, tmp_path / "out", step, error)


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES])
def test_failure_of_every_step_in_the_file_system(forks, small_pair, small_whole, tmp_path, error):
    for step in range(1, 140):
        fail_at_step(forks, small_pair, small_whole, tmp_path / f"{step}/out", step, error)
