"""Pipes, sockets, devices and folders in place of files, and files of 10 GB: no reader blocks or loads them whole."""

import json
import os
import shutil
import socket
import stat
import tracemalloc

import pytest

from model_ops.recovery.errors import Failure
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.planner import make_plan
from tests.attacks.kit import floats, naive, sound_tensors, time_limit, write_index, write_tensors

READ_BY_BASE = ("model.safetensors", "config.json")
COPIED = ("tokenizer_config.json", "tokenizer.model", "generation_config.json", "LICENSE")
JUDGED = ("weights.manifest.json", "model_sum.txt", "model.safetensors.index.json", *COPIED)
KINDS = ("pipe", "socket", "device", "folder")
HUGE = 10 * 10**9


def put(folder, name, kind, monkeypatch):
    path = folder / name
    path.unlink(missing_ok=True)
    if name.endswith(".index.json"):
        (folder / "model.safetensors").unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(folder)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which is endless
        except OSError:
            pytest.skip("making a device needs root")
    else:
        path.mkdir()
    return path


def test_pipe_keeps_a_plain_reader_waiting_for_ever(world):
    world.weights.unlink()
    os.mkfifo(world.weights)
    code = "import signal; signal.setitimer(signal.ITIMER_REAL, 0.2); open('diff/model.safetensors', 'rb').read()"
    assert naive(code, world.root).returncode == -14
    assert "'model.safetensors' in diff is not a regular file" in world.refused()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READ_BY_BASE)
@pytest.mark.parametrize("role", ["base", "diff"])
def test_no_file_where_one_is_read_is_refused(world, monkeypatch, role, name, kind):
    put(world.root / role, name, kind, monkeypatch)
    assert f"'{name}' in {role} is not a regular file" in world.refused()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JUDGED)
def test_no_file_beside_the_weights_is_refused(world, monkeypatch, name, kind):
    put(world.diff, name, kind, monkeypatch)
    if kind == "folder" and name in COPIED:
        assert name not in world.made()
    else:
        assert f"'{name}' in diff is not a regular file" in world.refused()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["README.md", ".gitattributes", "optimizer.bin", "other.index.json"])
def test_no_file_where_none_is_asked_for_is_not_opened(world, monkeypatch, name, kind):
    put(world.root / "diff", name, kind, monkeypatch) if not name.startswith("other") else (
        world.diff / name
    ).mkdir()
    assert name not in world.made()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COPIED)
def test_no_file_beside_the_base_is_not_opened_unless_it_is_asked(world, monkeypatch, name, kind):
    put(world.base, name, kind, monkeypatch)
    assert "model.safetensors" in world.made()


def stretch(path):
    path.touch()
    os.truncate(path, HUGE)
    assert path.stat().st_blocks * 512 < 10**6
    return path


SWALLOWED = {
    "config.json": "config.json is larger than",
    "weights.manifest.json": "weights.manifest.json is larger than",
    "model_sum.txt": "does not contain a single number",
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_file_of_10_gb_that_is_to_be_parsed_is_refused(world, name):
    stretch(world.diff / name)
    done = naive(f"open('diff/{name}', 'rb').read()", world.root, memory=1 << 30)
    assert "MemoryError" in done.stderr
    assert SWALLOWED[name] in world.refused()


def test_index_of_10_gb_is_refused(world):
    write_index(world.diff, dict.fromkeys(sound_tensors(), "part.safetensors"))
    world.weights.unlink()
    stretch(world.diff / "model.safetensors.index.json")
    assert "model.safetensors.index.json is larger than" in world.refused()


def test_bin_of_10_gb_is_refused(world):
    world.use_bin(world.diff)
    stretch(world.diff / "pytorch_model.bin")
    assert "does not end as a zip file does" in world.refused()


def test_tokenizer_of_10_gb_is_planned_for_and_not_read(world):
    stretch(world.diff / "tokenizer.model")
    outcome = world.plan("--json")
    if outcome.status == 2:
        assert "There is not enough disk space for out" in outcome.sentence
    else:
        assert json.loads(outcome.stdout)["bytes_to_write"] > HUGE


def test_file_beside_the_weights_is_copied_in_little_memory(world):
    size = 64 * 1024 * 1024
    (world.diff / "tokenizer.model").touch()
    os.truncate(world.diff / "tokenizer.model", size)
    world.made()  # all imports have been done
    shutil.rmtree(world.out)
    tracemalloc.start()
    try:
        assert world.run().status == 0
        assert tracemalloc.get_traced_memory()[1] < size // 2
    finally:
        tracemalloc.stop()
    assert (world.out / "tokenizer.model").stat().st_size == size


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("place", ["a pipe", "no JSON", "a link out"])
def test_file_exchanged_after_planning_ends_the_run(world, name, place):
    plan = make_plan(world.base, world.diff)
    path = world.diff / name
    path.unlink()
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "no JSON":
        path.write_text("{")
    else:
        path.symlink_to("/etc/passwd")
    pytest.importorskip("torch", reason="only making weights needs torch")
    with time_limit(20), pytest.raises(Failure):
        execute(plan, world.out)
    assert not world.out.exists()


def test_padding_token_of_10_gb_is_refused(world):
    """The tokenizer of the base is read only if rows are to be added."""
    grown = {**sound_tensors(0.5), "lm_head.weight": ("F32", (7, 8), floats(56, 0.5))}
    write_tensors(world.weights, grown)
    stretch(world.base / "tokenizer_config.json")
    assert "tokenizer_config.json is larger than" in world.refused()
