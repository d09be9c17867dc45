"""Disks that fill, inputs that change: a clear failure, and nothing visible."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.options import Options
from model_ops.recovery.plan import make_plan
from model_ops.recovery.run import execute
from model_ops.recovery.verify import verify_folder
from tests.model_ops.recovery import models, plain


@pytest.fixture
def pair(tmp_path):
    return plain.write_pair(tmp_path)


def test_input_cut_short_under_way_fails(pair, tmp_path):
    plan = make_plan(*pair)
    os.truncate(pair[1] / "model.safetensors", 100_000)
    with pytest.raises(Failure, match=r"The input model\.safetensors was cut short under way\."):
        execute(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_input_changed_under_way_fails_and_the_next_run_begins_anew(pair, tmp_path):
    plan = make_plan(*pair, Options(max_shard_size="500KB"))
    with (pair[1] / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    with pytest.raises(Failure, match=r"model\.safetensors was changed under way"):
        execute(plan, tmp_path / "out")
    again = make_plan(*pair, Options(max_shard_size="500KB"))
    result = execute(again, tmp_path / "out")
    assert result.bytes_written == again.bytes_of_weights
    assert verify_folder(tmp_path / "out").ok


def test_input_that_vanished_fails(pair, tmp_path):
    plan = make_plan(*pair)
    (pair[0] / "model.safetensors").unlink()
    with pytest.raises(Failure, match="cannot be opened"):
        execute(plan, tmp_path / "out")


def test_write_that_fails_is_one_sentence_and_the_next_run_finishes(pair, tmp_path):
    command = [sys.executable, "-m", "model_ops.recovery", "recover", "--path_raw", str(pair[0]), "--path_diff",
               str(pair[1]), "--path_tuned", str(tmp_path / "out")]  # fmt: skip
    limited = ["bash", "-c", f"ulimit -f 500; exec {shlex.join(command)}"]
    done = subprocess.run(limited, cwd=models.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "model.safetensors could not be written: File too large.\n")
    assert not (tmp_path / "out").exists()
    execute(make_plan(*pair), tmp_path / "out")
    assert verify_folder(tmp_path / "out").ok


def test_disk_without_room_is_refused_before_writing(pair, tmp_path):
    if not Path("/dev/full").exists() or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(Refusal, match="not enough room for out"):
            execute(make_plan(*pair), small / "out")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_file_system_in_memory_gets_the_same_bytes(pair, tmp_path):
    if not Path("/dev/shm").is_dir() or not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no file system in memory here")
    import tempfile

    execute(make_plan(*pair), tmp_path / "out")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        execute(make_plan(*pair), Path(folder) / "out")
        assert plain.files_of(Path(folder) / "out") == plain.files_of(tmp_path / "out")


def test_leftovers_of_a_run_killed_after_its_rename_are_cleaned_up(pair, tmp_path):
    execute(make_plan(*pair), tmp_path / "out")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/recovery.json").write_text("{}")
    (tmp_path / "out.partial/model.safetensors.done.json").write_text("{}")
    assert execute(make_plan(*pair), tmp_path / "out").already_there
    assert not (tmp_path / "out.partial").exists()


def test_unfinished_work_of_other_inputs_is_replaced(pair, tmp_path):
    (tmp_path / "out.partial/result").mkdir(parents=True)
    (tmp_path / "out.partial/recovery.json").write_text('{"identity": "another"}')
    (tmp_path / "out.partial/result/stale.safetensors").write_text("stale")
    execute(make_plan(*pair), tmp_path / "out")
    assert verify_folder(tmp_path / "out").ok
