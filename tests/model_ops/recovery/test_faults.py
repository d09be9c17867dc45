"""Full or failing disks and changing inputs give a clear error and no output, and the next run resumes."""

import contextlib
import errno
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from model_ops.recovery.cli import main
from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from model_ops.recovery.verify import verify_folder
from tests.model_ops.recovery import models, plain
from tests.model_ops.recovery.disk import Disk

SHARDS = "500KB"
LAST = "model-00007-of-00008.safetensors"
FULL = "The disk is full; {} could not be written. Make room and run the same command again.\n"


@pytest.fixture
def pair(tmp_path):
    """Return a pair with a diff of 2.5 MB; its output is eight files of at most 1 MB."""
    return plain.write_pair(tmp_path / "inputs")


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def recover(pair, out):
    """Run the command in this process, so that the failing disk applies; return its exit status."""
    return main([
        "recover", "--path_raw", str(pair[0]), "--path_diff", str(pair[1]), "--path_tuned", str(out),
        "--max-shard-size", SHARDS, "--jobs", "1",
    ])  # fmt: skip


def times(out):
    """Return when each finished file was written."""
    partial = out.with_name(out.name + ".partial")
    files = [path.name.removesuffix(".done.json") for path in partial.glob("*.done.json")]
    return {name: (partial / "result" / name).stat().st_mtime_ns for name in files}


def assert_goes_on(pair, out, capsys):
    """Check that the same command reuses the finished files and succeeds."""
    assert not out.exists()
    finished = times(out)
    assert recover(pair, out) == 0
    assert capsys.readouterr().err == ""
    assert verify_folder(out).ok
    assert finished == {name: (out / name).stat().st_mtime_ns for name in finished}
    assert not out.with_name("out.partial").exists()
    return len(finished)


@pytest.mark.parametrize(
    ("call", "name", "error", "sentence"),
    [
        ("pwrite", LAST, errno.ENOSPC, FULL.format(LAST)),
        ("pwrite", LAST, errno.EDQUOT, FULL.format(LAST)),
        ("pwrite", LAST, errno.EIO, f"{LAST} could not be written: Input/output error.\n"),
        ("fsync", LAST, errno.EIO, f"{LAST} could not be written: Input/output error.\n"),
        ("fsync", "config.json", errno.ENOSPC, FULL.format("config.json")),
        ("fsync", "weights.manifest.json", errno.EIO, "weights.manifest.json could not be written: Input/output error.\n"),
        ("fsync", "result", errno.EIO, "out could not be written: Input/output error.\n"),
    ],
)  # fmt: skip
def test_write_that_fails_is_one_sentence_and_the_next_run_goes_on(
    pair, tmp_path, disk, capsys, call, name, error, sentence
):
    disk.fail(call, name, error)
    assert (recover(pair, tmp_path / "out"), capsys.readouterr().err) == (1, sentence)
    disk.heal()
    assert assert_goes_on(pair, tmp_path / "out", capsys) >= 6


@pytest.mark.parametrize("role", [0, 1])
def test_unreadable_sector_is_one_sentence_and_the_next_run_goes_on(pair, tmp_path, disk, capsys, role):
    disk.fail("preadv", "model.safetensors", errno.EIO, after=12)
    assert recover(pair, tmp_path / "out") == 1
    sentence = capsys.readouterr().err
    assert sentence.startswith("model.safetensors cannot be read at byte ")
    assert sentence.endswith(": Input/output error; check its disk, or fetch the file again.\n")
    disk.heal()
    assert assert_goes_on(pair, tmp_path / "out", capsys) >= 1


def test_folder_that_cannot_be_synced_after_the_rename_shows_nothing(pair, tmp_path, disk, capsys):
    disk.fail("fsync", tmp_path.name, errno.EIO)
    assert recover(pair, tmp_path / "out") == 1
    assert capsys.readouterr().err == "out could not be written: Input/output error.\n"
    disk.heal()
    assert assert_goes_on(pair, tmp_path / "out", capsys) == 8


def under_way(disk, action):
    """Call `action` once, after some blocks have been read."""
    disk.on("preadv", "model.safetensors", lambda *_: action(), after=12, times=1)


def test_input_cut_short_under_way_fails(pair, tmp_path, disk, capsys):
    under_way(disk, lambda: os.truncate(pair[1] / "model.safetensors", 100_000))
    assert recover(pair, tmp_path / "out") == 1
    assert capsys.readouterr().err == (
        "The input model.safetensors was cut short under way; put it back and run the same command again.\n"
    )
    assert not (tmp_path / "out").exists()


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path):
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")


@pytest.mark.parametrize("change", [grow, overwrite, Path.unlink])
def test_input_changed_under_way_fails_and_the_next_run_begins_anew(pair, tmp_path, disk, capsys, change):
    path = pair[1] / "model.safetensors"
    before = path.read_bytes()
    under_way(disk, lambda: change(path))
    assert recover(pair, tmp_path / "out") == 1
    assert "model.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    path.write_bytes(before)
    again = make_plan(*pair, Options(max_shard_size=SHARDS))
    assert execute(again, tmp_path / "out").bytes_written == again.bytes_of_weights
    assert verify_folder(tmp_path / "out").ok


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("moment", ["before it is copied", "while it is copied"])
def test_file_beside_the_weights_that_changes_under_way_fails_and_the_next_run_goes_on(
    pair, tmp_path, disk, capsys, name, moment
):
    """Its size stays the same; the copy may hold either version."""
    (pair[1] / "tokenizer_config.json").write_text('{"model_type": "llama"}')
    path = pair[1] / name
    changed = path.read_bytes().replace(b"llama", b"LLAMA")
    if moment == "while it is copied":
        disk.on("fsync", name, lambda *_: path.write_bytes(changed) and None, times=1)
    else:
        under_way(disk, lambda: path.write_bytes(changed) and None)
    assert recover(pair, tmp_path / "out") == 1
    assert capsys.readouterr().err == f"The input {name} was changed under way; nothing was made of it.\n"
    assert not (tmp_path / "out").exists()
    assert recover(pair, tmp_path / "out") == 0
    assert verify_folder(tmp_path / "out").ok


def test_shard_made_of_a_changed_input_is_not_kept_for_a_run_after_it_was_put_back(
    pair, tmp_path, disk, capsys
):
    """The shard is discarded even if the input is restored with its old time, as `cp -p` does."""
    plain.recover(*pair, tmp_path / "whole", max_shard_size=SHARDS)
    path = pair[1] / "model.safetensors"
    before, status = path.read_bytes(), path.stat()
    disk.on(
        "preadv", path.name, lambda *_: path.write_bytes(before[:-40_000] + bytes(40_000)) and None, times=1
    )
    assert recover(pair, tmp_path / "out") == 1
    path.write_bytes(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert recover(pair, tmp_path / "out") == 0
    assert plain.files_of(tmp_path / "out") == plain.files_of(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("role", [0, 1])
def test_input_cut_short_or_longer_than_its_header_says_is_refused(pair, tmp_path, capsys, kind, role):
    folders = [
        plain.write_state(tmp_path / f"{kind}{n}", plain.state_of(folder), kind=kind)
        for n, folder in enumerate(pair)
    ]
    path = next(path for path in folders[role].iterdir() if path.suffix != ".json")
    whole = path.read_bytes()
    for data in (whole[:-1], whole[: len(whole) // 2], whole[:7], b"", whole + b"\0"):
        path.write_bytes(data)
        assert recover(folders, tmp_path / "out") == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_real_limit_of_the_file_size_is_one_sentence_and_the_next_run_finishes(pair, tmp_path):
    command = [sys.executable, "-m", "model_ops.recovery", "recover", "--path_raw", str(pair[0]), "--path_diff",
               str(pair[1]), "--path_tuned", str(tmp_path / "out")]  # fmt: skip
    limited = ["bash", "-c", f"ulimit -f 500; exec {shlex.join(command)}"]
    done = subprocess.run(limited, cwd=models.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "model.safetensors could not be written: File too large.\n")
    assert not (tmp_path / "out").exists()
    execute(make_plan(*pair), tmp_path / "out")
    assert verify_folder(tmp_path / "out").ok


def test_memory_that_cannot_be_had_is_one_sentence(tmp_path):
    """Running out of memory gives one sentence; the error is torch's own, under a limit on the process."""
    pair = plain.write_pair(tmp_path, vocab=16_000, hidden=1024, layers=1)
    arguments = ["recover", "--path_raw", pair[0], "--path_diff", pair[1], "--path_tuned", tmp_path / "out",
                 "--device", "cpu", "--jobs", "1"]  # fmt: skip
    code = (
        "import re, resource, sys, threading, torch, numpy\nfrom pathlib import Path\n"
        "import model_ops.recovery.execution.pipeline\nfrom model_ops.recovery.cli import main\n"
        "threading.stack_size(256 * 1024)\n"
        "taken = int(re.search(r'VmSize:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 6_000_000, resource.RLIM_INFINITY))\n"
        f"sys.exit(main({list(map(str, arguments))!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=models.ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "There was not enough memory; try fewer --jobs.\n")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def mounted(tmp_path):
    """Return `mounted(size, *options)`, which mounts a file system in memory of that size for this test."""
    folders = []

    def mount(size, *options):
        if os.geteuid() != 0:
            pytest.skip("mounting a small file system needs root")
        folder = tmp_path / "mounted"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_without_room_is_refused_before_writing(pair, mounted):
    small = mounted("1m")
    with pytest.raises(Refusal, match="not enough disk space for out"):
        execute(make_plan(*pair), small / "out")
    assert list(small.iterdir()) == []


def test_disk_that_fills_up_under_way_is_one_sentence_and_goes_on_when_there_is_room(
    pair, mounted, disk, capsys
):
    """Another process fills the disk during the fourth file; the errors are the kernel's own."""
    small = mounted("25m")

    def take_all(*_):
        with contextlib.suppress(OSError), (small / "another").open("wb") as file:
            while True:
                file.write(bytes(65536))

    fourth = "model-00004-of-00008.safetensors"
    disk.on("pwrite", fourth, take_all, times=1)
    assert (recover(pair, small / "out"), capsys.readouterr().err) == (1, FULL.format(fourth))
    assert sorted(path.name for path in small.iterdir()) == ["another", "out.partial"]
    assert recover(pair, small / "out") == 2
    assert "There is not enough disk space for out" in capsys.readouterr().err
    (small / "another").unlink()
    assert assert_goes_on(pair, small / "out", capsys) == 3


def test_mount_point_is_refused_before_the_work(pair, mounted, capsys):
    """A mount point cannot be replaced by renaming, which would otherwise only fail at the very end."""
    target = mounted("25m")
    assert recover(pair, target) == 2
    assert capsys.readouterr().err == (
        "mounted is a mount point, which cannot be replaced; name a folder inside it.\n"
    )
    assert not target.with_name("mounted.partial").exists()


def test_parent_that_cannot_be_written_is_refused(pair, mounted, capsys):
    assert recover(pair, mounted("25m", "ro") / "out") == 2
    assert capsys.readouterr().err == (
        "out.partial cannot be made beside the target: Read-only file system.\n"
    )


def test_target_below_a_file_is_refused(pair, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert recover(pair, tmp_path / "file/out") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_file_system_in_memory_gets_the_same_bytes(pair, tmp_path):
    if not Path("/dev/shm").is_dir() or not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no file system in memory here")
    execute(make_plan(*pair), tmp_path / "out")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        execute(make_plan(*pair), Path(folder) / "out")
        assert plain.files_of(Path(folder) / "out") == plain.files_of(tmp_path / "out")


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o027])
def test_modes_do_not_depend_on_the_umask(pair, tmp_path, umask):
    before = os.umask(umask)
    try:
        plain.recover(*pair, tmp_path / "out", max_shard_size=SHARDS)
    finally:
        os.umask(before)
    out = tmp_path / "out"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [out, *out.iterdir()]}
    assert modes == {**dict.fromkeys(modes, 0o644), "out": 0o755}
    assert len(modes) == 12


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


def test_large_file_beside_the_weights_is_on_the_disk_as_it_goes(pair, tmp_path, disk):
    """The copy is flushed as it is written; otherwise gigabytes of it would wait in the page cache."""
    with (pair[1] / "tokens.txt").open("wb") as file:
        file.truncate(70 * 1024 * 1024)
    plain.recover(*pair, tmp_path / "out")
    assert disk.calls["fdatasync", "tokens.txt"] == 2
