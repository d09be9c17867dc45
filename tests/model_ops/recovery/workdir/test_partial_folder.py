"""Several processes can make one model: each makes some shards, and one of them finishes the folder."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from model_ops.recovery.system.control import Control
from tests.model_ops.recovery import models, plain
from tests.waiting import wait_until

OPTIONS = Options(max_shard_size="1MB")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return plain.write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def whole(pair, tmp_path_factory):
    """Return what a single process makes of the pair: four shards."""
    out = tmp_path_factory.mktemp("whole") / "out"
    execute(make_plan(*pair, OPTIONS), out)
    return plain.files_of(out)


@pytest.fixture
def plan(pair):
    return make_plan(*pair, OPTIONS)


def shards(plan):
    return [shard.file for shard in plan.shards]


def command(pair, out, *options):
    return [sys.executable, "-m", "model_ops.recovery", "recover", "--path_raw", str(pair[0]), "--path_diff",
            str(pair[1]), "--path_tuned", str(out), "--max-shard-size", "1MB", "--json", *options]  # fmt: skip


def only(*files):
    return [part for file in files for part in ("--only", file)]


def beside(plan):
    """Return the bytes of the other files, which are copied at the end."""
    return sum(file.source.size for file in plan.copies)


@contextlib.contextmanager
def held(path, how):
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield


def finished_shards(out):
    return {path.name.removesuffix(".done.json") for path in out.with_name("out.partial").glob("*.done.json")}


def test_only_makes_the_named_shards_and_stops(pair, plan, tmp_path):
    _, second, third, *_ = shards(plan)
    done = models.run_cli(*command(pair, tmp_path / "out", *only(third, second))[3:])
    assert (done.returncode, done.stderr) == (0, "")
    assert [shard["file"] for shard in json.loads(done.stdout)["shards"]] == [second, third]
    assert finished_shards(tmp_path / "out") == {second, third}
    assert not (tmp_path / "out").exists()


def test_finished_files_of_other_options_are_let_go_and_it_is_said(pair, plan, tmp_path):
    execute(plan, tmp_path / "out", only=shards(plan)[:2])
    options = (
        "--dtype",
        "bfloat16",
        *only(shards(make_plan(*pair, Options(max_shard_size="1MB", dtype="bfloat16")))[0]),
    )
    done = models.run_cli(*command(pair, tmp_path / "out", *options)[3:])
    assert (done.returncode, done.stderr) == (
        0,
        "note: 2 finished file(s) of other inputs or options were let go.\n",
    )
    assert json.loads(done.stdout)["let_go"] == 2
    again = models.run_cli(*command(pair, tmp_path / "out", *options)[3:])
    assert (again.returncode, again.stderr) == (0, "")


def test_only_of_an_unknown_file_is_refused(pair, tmp_path):
    done = models.run_cli(*command(pair, tmp_path / "out", "--only", "model.safetensors")[3:])
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr == (
        "--only 'model.safetensors' is not a weight file of this plan; plan --json lists its files.\n"
    )


def test_processes_at_once_make_what_one_makes(pair, plan, whole, tmp_path):
    out, (first, second, *rest) = tmp_path / "out", shards(plan)
    wanted = ([first, second], [second, *rest])
    children = [subprocess.Popen(command(pair, out, *only(*files)), cwd=models.ROOT) for files in wanted]
    assert [child.wait() for child in children] == [0, 0]
    result = execute(plan, out)
    assert (result.bytes_written, result.device) == (0, "none")
    assert plain.files_of(out) == whole
    assert list(tmp_path.iterdir()) == [out]


def test_shards_of_the_same_run_are_not_read_again(plan, whole, tmp_path):
    first, second, *rest = shards(plan)
    out, sizes = tmp_path / "out", {shard.file: shard.size for shard in plan.shards}
    execute(plan, out, only=[first], run_id="ab")
    execute(plan, out, only=[second], run_id="cd")
    execute(plan, out, only=rest, run_id="ab")
    touched = tmp_path / "out.partial/result" / rest[0]
    os.utime(touched)
    result = execute(plan, out, run_id="ab")
    assert result.bytes_read == sizes[second] + sizes[rest[0]] + beside(plan)
    assert result.bytes_written == 0
    assert plain.files_of(out) == whole


def test_shards_of_another_run_are_read_once(plan, whole, tmp_path):
    out, files = tmp_path / "out", shards(plan)
    execute(plan, out, only=files, run_id="ab")
    result = execute(plan, out, only=files, run_id="cd")
    assert (result.bytes_read, result.bytes_written) == (plan.bytes_of_weights, 0)
    result = execute(plan, out, run_id="cd")
    assert (result.bytes_read, result.bytes_written) == (beside(plan), 0)
    assert plain.files_of(out) == whole


def test_damaged_shard_of_the_same_run_is_made_again(plan, whole, tmp_path):
    first, second = shards(plan)[:2]
    execute(plan, tmp_path / "out", only=[first, second], run_id="ab")
    damaged = tmp_path / "out.partial/result" / first
    damaged.write_bytes(b"\xff" + damaged.read_bytes()[1:])
    result = execute(plan, tmp_path / "out", run_id="ab")
    assert result.bytes_written == plan.bytes_of_weights - plan.shards[1].size
    assert plain.files_of(tmp_path / "out") == whole


def test_only_of_a_finished_target_does_nothing(plan, tmp_path):
    execute(plan, tmp_path / "out")
    result = execute(plan, tmp_path / "out", only=shards(plan)[:1])
    assert result.already_there
    assert [shard["file"] for shard in result.shards] == shards(plan)[:1]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_sibling_waits_for_the_one_that_checks(plan, tmp_path):
    out, (first, second, *_) = tmp_path / "out", shards(plan)
    execute(plan, out, only=[first])
    with ThreadPoolExecutor(1) as pool:
        with held(tmp_path / "out.partial/lock", fcntl.LOCK_EX):
            sibling = pool.submit(execute, plan, out, only=[second])
            time.sleep(0.3)
            assert finished_shards(out) == {first}
        sibling.result()
    assert finished_shards(out) == {first, second}


def test_sibling_of_one_that_died_while_checking_checks_by_itself(plan, tmp_path):
    out, (first, second, *_) = tmp_path / "out", shards(plan)
    execute(plan, out, only=[first])
    checked = tmp_path / "out.partial/checked.json"
    checked.unlink()
    with ThreadPoolExecutor(1) as pool:
        with held(tmp_path / "out.partial/lock", fcntl.LOCK_SH):
            sibling = pool.submit(execute, plan, out, only=[second])
            time.sleep(0.3)
            assert finished_shards(out) == {first}
        sibling.result()
    assert checked.exists()


def test_finishing_waits_for_siblings(plan, whole, tmp_path):
    out, partial, (first, second, *rest) = tmp_path / "out", tmp_path / "out.partial", shards(plan)
    execute(plan, out, only=[first])
    with ThreadPoolExecutor(1) as pool:
        with held(partial / "lock", fcntl.LOCK_SH):
            with held(partial / f"{second}.lock", fcntl.LOCK_EX):
                finishing = pool.submit(execute, plan, out)
                wait_until(lambda: finished_shards(out) == {first, *rest})
            wait_until(lambda: finished_shards(out) == set(shards(plan)))
            assert not out.exists()
        finishing.result()
    assert plain.files_of(out) == whole


def test_finished_by_somebody_else_while_waiting_is_left_alone(pair, plan, whole, tmp_path):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    execute(plan, out, only=shards(plan)[:1])
    with held(partial / "lock", fcntl.LOCK_EX):
        late = subprocess.Popen(
            command(pair, out, *only(shards(plan)[0])), cwd=models.ROOT, stdout=subprocess.PIPE
        )
        execute(plan, tmp_path / "other")
        (tmp_path / "other").rename(out)
        shutil.rmtree(partial)
    assert json.loads(late.communicate()[0])["already_there"]
    assert plain.files_of(out) == whole
    assert not partial.exists()


def test_second_process_that_makes_the_whole_is_refused(plan, tmp_path):
    execute(plan, tmp_path / "out", only=shards(plan)[:1])
    with (
        held(tmp_path / "out.partial/whole.lock", fcntl.LOCK_EX),
        pytest.raises(Refusal, match=r"Another process is writing out\.partial; wait for it or end it\."),
    ):
        execute(plan, tmp_path / "out")


@pytest.mark.parametrize("files", [[], ["model-00001-of-00004.safetensors"]])
def test_other_plan_is_refused_while_siblings_work(pair, plan, tmp_path, files):
    execute(plan, tmp_path / "out", only=files[:1] or shards(plan)[:1])
    other = make_plan(*pair, Options(max_shard_size="1MB", resize_policy="zero"))
    with (
        held(tmp_path / "out.partial/lock", fcntl.LOCK_SH),
        pytest.raises(Refusal, match=r"Another process is writing out\.partial"),
    ):
        execute(other, tmp_path / "out", only=files)


def test_input_changed_under_way_fails_for_some_shards_too(tmp_path):
    pair = plain.write_pair(tmp_path)
    plan = make_plan(*pair, OPTIONS)
    os.utime(pair[0] / "model.safetensors")
    with pytest.raises(Failure, match=r"model\.safetensors was changed under way"):
        execute(plan, tmp_path / "out", only=shards(plan)[:1])


def test_values_that_are_not_finite_fail_for_some_shards_too(tmp_path):
    base, diff = plain.write_pair(tmp_path)
    state = plain.state_of(diff)
    state["lm_head.weight"][3, 3] = float("nan")
    plan = make_plan(base, plain.write_state(tmp_path / "damaged", state), OPTIONS)
    with pytest.raises(Failure, match=r"lm_head\.weight would hold 1 value"):
        execute(plan, tmp_path / "out", only=shards(plan)[:1])
    execute(plan, tmp_path / "out", only=shards(plan)[1:])


def test_value_that_is_not_finite_ends_the_run_at_its_shard(tmp_path):
    base, diff = plain.write_pair(tmp_path)
    state = plain.state_of(diff)
    state["lm_head.weight"][3, 3] = float("nan")
    plan, out = make_plan(base, plain.write_state(tmp_path / "damaged", state), OPTIONS), tmp_path / "out"
    first, second, *_, last = shards(plan)
    execute(plan, out, only=[last])
    with (
        held(tmp_path / f"out.partial/{second}.lock", fcntl.LOCK_EX),
        pytest.raises(Failure, match=r"lm_head\.weight would hold 1 value"),
    ):
        execute(plan, out, jobs=1)
    assert finished_shards(out) == {first, last}
    rest = plan.bytes_of_weights - plan.shards[0].size - plan.shards[-1].size
    assert execute(plan, out, non_finite="report").bytes_written == rest


def test_room_that_siblings_have_used_is_not_asked_for_again(plan, tmp_path, monkeypatch):
    execute(plan, tmp_path / "out", only=shards(plan)[:2])
    left = plan.bytes_to_write - sum(shard.size for shard in plan.shards[:2]) + 17 * 1024 * 1024
    usage = namedtuple("usage", "total used free")(10**9, 0, left)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Refusal, match="not enough disk space"):
        execute(plan, tmp_path / "fresh")
    execute(plan, tmp_path / "out")


STATES = {"of another plan": '{"identity": "another"}', "of nobody": "{}", "missing": None}


class Waited(Control):
    """Notes when it had to wait for another process."""

    def __init__(self):
        super().__init__()
        self.paused = threading.Event()

    def pause(self):
        self.paused.set()
        super().pause()


@pytest.mark.parametrize("how", ["only", "whole"])
@pytest.mark.parametrize("state", STATES)
def test_sibling_waits_while_the_folder_is_adopted(plan, whole, tmp_path, state, how):
    out, partial, control = tmp_path / "out", tmp_path / "out.partial", Waited()
    partial.mkdir()
    if STATES[state] is not None:
        (partial / "recovery.json").write_text(STATES[state])
    files = shards(plan)[:1] if how == "only" else []
    with ThreadPoolExecutor(1) as pool:
        with held(partial / "lock", fcntl.LOCK_EX):
            sibling = pool.submit(execute, plan, out, only=files, control=control)
            wait_until(lambda: control.paused.is_set() or sibling.done())
            assert not sibling.done()
            assert not finished_shards(out)
        assert sibling.result().bytes_written
    assert finished_shards(out) == set(files)
    assert out.exists() == (how == "whole")


def test_waiting_for_a_sibling_can_be_cancelled(plan, tmp_path):
    execute(plan, tmp_path / "out", only=shards(plan)[:1])
    control = Control()
    threading.Timer(0.2, control.cancel).start()
    with held(tmp_path / "out.partial/lock", fcntl.LOCK_EX), pytest.raises(Failure, match="was cancelled"):
        execute(plan, tmp_path / "out", only=shards(plan)[:1], control=control)
