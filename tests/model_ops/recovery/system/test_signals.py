"""A signal at any moment gives one sentence or the whole result, and the next run completes it."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_ops.recovery.errors import Failure
from model_ops.recovery.system.control import Control
from model_ops.recovery.verify import verify_folder
from tests.model_ops.recovery import models, plain

CANCELLED = "The run was cancelled; finished shards are kept, and the same command resumes it.\n"
ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
HARMLESS = [signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT, signal.SIGURG]
SHARDS = "1MB"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return a pair whose output is 50 files of about 1 MB."""
    return plain.write_pair(tmp_path_factory.mktemp("pair"), vocab=2000, hidden=512, layers=16)


@pytest.fixture(scope="module")
def whole(pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    plain.recover(*pair, out, max_shard_size=SHARDS)
    return plain.files_of(out)


def start(pair, out, *options, command="recover", **settings):
    """Start a run, and wait until the kernel shows that it handles signals."""
    arguments = [command, "--path_raw", pair[0], "--path_diff", pair[1], "--path_tuned", out, *options]
    child = subprocess.Popen(
        [sys.executable, "-m", "model_ops.recovery", *map(str, arguments)], cwd=models.ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings,
    )  # fmt: skip
    while child.poll() is None and not obeys(child.pid):
        time.sleep(0.001)
    return child


def obeys(pid, field="SigBlk", number=signal.SIGTERM):
    """Return whether the process blocks this signal for its waiting thread or, with `SigIgn`, ignores it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith(field))
    return bool(int(mask, 16) >> (number - 1) & 1)


def is_there(pattern, out):
    return bool(list(out.with_name("out.partial").glob(pattern)))


MOMENTS = {
    "at once": lambda out: True,
    "when the work begins": lambda out: is_there("lock", out),
    "after the first shard": lambda out: is_there("*.done.json", out),
    "when the last files are written": lambda out: is_there("result/config.json", out) or out.exists(),
}


def storm(child, chance):
    """Send every kind of signal, hundreds of them if the process lives that long."""
    while child.poll() is None:
        child.send_signal(chance.choice(ENDS + HARMLESS))
        time.sleep(chance.uniform(0, 0.002))


def assert_ends_well(child, pair, out, whole):
    errors = child.communicate()[1]
    assert (child.returncode, errors) in {(0, ""), (1, CANCELLED)}
    assert out.exists() == (child.returncode == 0)
    plain.recover(*pair, out, max_shard_size=SHARDS)
    assert plain.files_of(out) == whole
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_storm_of_signals_ends_with_one_sentence_or_with_the_whole(pair, whole, tmp_path, moment):
    out, chance = tmp_path / "out", random.Random(moment)
    child = start(pair, out, "--max-shard-size", SHARDS)
    while child.poll() is None and not MOMENTS[moment](out):
        child.send_signal(chance.choice(HARMLESS))
        time.sleep(0.001)
    storm(child, chance)
    assert_ends_well(child, pair, out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_storm_of_signals_from_a_random_moment_on(pair, whole, tmp_path, seed):
    chance = random.Random(seed)
    child = start(pair, tmp_path / "out", "--max-shard-size", SHARDS)
    time.sleep(chance.uniform(0, 2.5))
    storm(child, chance)
    assert_ends_well(child, pair, tmp_path / "out", whole)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_signal_that_was_ignored_at_the_start_stays_so(pair, number):
    """A signal ignored at the start stays ignored, as with `nohup` and `&` in a script."""
    script = f'trap "" {number.name[3:]}; exec "$@"'
    command = [
        sys.executable,
        "-m",
        "model_ops.recovery",
        "plan",
        "--path_raw",
        pair[0],
        "--path_diff",
        pair[1],
    ]
    child = subprocess.Popen(
        ["sh", "-c", script, "sh", *map(str, command)], cwd=models.ROOT, stdout=subprocess.DEVNULL
    )
    while child.poll() is None:
        if obeys(child.pid, "SigIgn", number):
            child.send_signal(number)
        time.sleep(0.001)
    assert child.returncode == 0


def test_reader_of_progress_that_goes_away_does_not_end_the_work(pair, whole, tmp_path):
    child = start(pair, tmp_path / "out", "--max-shard-size", SHARDS, "--progress-json", "--json")
    child.stdout.close()
    child.wait()
    assert (child.returncode, child.stderr.read()) == (0, "")
    child.stderr.close()
    assert plain.files_of(tmp_path / "out") == whole


def test_closed_standard_streams_end_up_in_no_file(pair, tmp_path):
    command = [sys.executable, "-m", "model_ops.recovery", "recover", "--json", "--path_raw", pair[0], "--path_diff",
               pair[1], "--path_tuned", tmp_path / "out"]  # fmt: skip
    script = 'exec "$@" 0<&- 1>&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *map(str, command)],
        cwd=models.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert verify_folder(tmp_path / "out").ok


def test_report_that_fails_stops_the_other_work():
    """An error in the waiting thread stops all other threads."""
    from concurrent.futures import ThreadPoolExecutor

    def report(*_):
        raise Failure("enough")

    control = Control(report, interval=0)

    def work():
        while True:
            control.check()

    with ThreadPoolExecutor(2) as pool, pytest.raises(Failure, match="enough"):
        control.gather([pool.submit(work), pool.submit(work)])
