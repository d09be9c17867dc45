"""At the next start, files of the state folder are closed to other users."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import tempfile
from pathlib import Path

import pytest

from model_ops.file_access_lists import ACCESS_LIST, private_mode
from portal.embedded.processes import cap_log
from portal.embedded.state import (
    LONGEST_TEMPORARY_NAME,
    clear_temporary,
    prepare_state,
    temporary_folder,
    tighten,
)

# user::rw- user:65534:r-- group::r-- mask::r-- other::---, as the kernel stores it (linux/posix_acl_xattr.h)
ENTRIES = [(1, 6, 2**32 - 1), (2, 4, 65534), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)]
LIST = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)


def modes(state: Path) -> dict[str, int]:
    return {str(path.relative_to(state)): stat.S_IMODE(path.lstat().st_mode) for path in state.rglob("*")}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder as an earlier version left it."""
    state = tmp_path / "state"
    for name in ("logs/web.log", "run/beat", "weights/blobs/ab/abc", "downloads/1.jsonl", "pg/data/base"):
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o644)
    (state / "tool").touch()
    (state / "tool").chmod(0o755)
    for path in [state, *state.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    return state


def test_files_of_an_earlier_version_are_tightened(state: Path) -> None:
    (state / "link").symlink_to("/etc/passwd")
    passwd = stat.S_IMODE(Path("/etc/passwd").stat().st_mode)
    tighten(state)
    found = modes(state)
    assert (found.pop("pg/data"), found.pop("pg/data/base")) == (0o755, 0o644)  # left to PostgreSQL
    assert found.pop("tool") == 0o700
    found.pop("link")
    assert {name: mode for name, mode in found.items() if mode & 0o077} == {}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path("/etc/passwd").stat().st_mode) == passwd


def test_weights_are_looked_through_once(state: Path) -> None:
    tighten(state)
    (state / "weights" / "blobs" / "ab" / "abc").chmod(0o644)
    (state / "logs" / "web.log").chmod(0o644)
    tighten(state)
    found = modes(state)
    assert (found["weights/blobs/ab/abc"], found["logs/web.log"]) == (0o644, 0o600)


def test_file_that_an_operator_opened_by_an_access_list_stays_open(state: Path) -> None:
    """nginx reads the weights this way when it runs as another user (docs/delivery.md)."""
    blob = state / "weights" / "blobs" / "ab" / "abc"
    try:
        os.setxattr(blob, ACCESS_LIST, LIST)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
            raise
        pytest.skip("this file system knows no access lists")
    tighten(state)
    assert (private_mode(blob), stat.S_IMODE(blob.stat().st_mode)) == (0o640, 0o640)
    blob.chmod(private_mode(blob))
    assert os.getxattr(blob, ACCESS_LIST) == LIST


def test_log_of_which_no_copy_can_be_made_is_emptied_all_the_same(tmp_path: Path) -> None:
    log, copy = tmp_path / "web.log", tmp_path / "web.log.1"
    log.write_text("12345678")
    cap_log(log, limit=8)
    assert log.read_text() == "12345678"
    cap_log(log, limit=7)
    assert (log.read_text(), copy.read_text()) == ("", "12345678")
    copy.unlink()
    copy.mkdir()
    log.write_text("12345678")
    cap_log(log, limit=7)
    assert log.read_text() == ""


def test_temporary_folder_of_a_part_is_emptied_and_no_other(tmp_path: Path) -> None:
    state = prepare_state(Path(tempfile.mkdtemp(dir="/tmp", prefix="gatehouse-")))
    try:
        mail, worker = temporary_folder(state, "worker-mail"), temporary_folder(state, "worker-recovery")
        outside = tmp_path / "kept"
        outside.mkdir()
        for folder in (mail, worker):
            (folder / "pymp-12345678").mkdir()
            (folder / "pymp-12345678" / "listener").touch()
            (folder / "tmpfile").touch()
            (folder / "link").symlink_to(outside)

        assert temporary_folder(state, "worker-mail") == mail == state / "run" / "tmp" / "worker-mail"
        assert list(mail.iterdir()) == []
        assert len(list(worker.iterdir())) == 3
        assert outside.is_dir()
        assert stat.S_IMODE(mail.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(state)


def test_temporary_folder_of_a_part_that_drains_is_another_one_at_each_start(state: Path) -> None:
    first = temporary_folder(state, "web", drains=True)
    (first / "in-use").touch()
    second = temporary_folder(state, "web", drains=True)
    assert first != second
    assert ([path.name for path in first.iterdir()], list(second.iterdir())) == (["in-use"], [])
    assert len(f"{second}{LONGEST_TEMPORARY_NAME}") <= 100
    clear_temporary(state)
    assert not first.exists()
    assert not second.exists()


def test_temporary_folder_of_a_long_path_is_short_enough_for_sockets(tmp_path: Path) -> None:
    state = prepare_state(tmp_path / ("long" * 20))
    folder = temporary_folder(state, "worker-recovery")
    try:
        assert len(f"{folder}{LONGEST_TEMPORARY_NAME}") <= 100
        assert not folder.is_relative_to(state)
        assert temporary_folder(state, "worker-recovery") == folder
    finally:
        shutil.rmtree(folder.parent.parent)
