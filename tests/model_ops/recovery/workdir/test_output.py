"""An output file has the same bytes whatever the file system supports; failures give one sentence."""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import stat

import pytest

from model_ops.recovery.errors import Failure
from model_ops.recovery.formats.git_ids import blob_id, pointer_id
from model_ops.recovery.workdir.output import OutputFile, sync_folder, write_small
from tests.model_ops.recovery.disk import Disk

BLOCK = 64 * 1024
SIZE = 3 * BLOCK + 4096 + 5


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
def content():
    """Return bytes in memory aligned for O_DIRECT."""
    memory = mmap.mmap(-1, SIZE)
    memory[:] = bytes(number * 7 % 251 for number in range(SIZE))
    return memory


def write(path, content):
    view = memoryview(content)
    with contextlib.closing(OutputFile(path, SIZE)) as file:
        for offset in range(0, SIZE, BLOCK):
            file.write(view[offset : offset + BLOCK], offset)
        file.finish()
    view.release()
    return path.read_bytes()


def is_direct(descriptor):
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def takes_o_direct(folder):
    with contextlib.suppress(OSError):
        os.close(os.open(folder / "try", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
        return True
    return False


def test_file_is_what_was_written(tmp_path, content):
    assert write(tmp_path / "out", content) == bytes(content)


@pytest.mark.parametrize("taken", [1, 511, 4096, 4097, 12_288, BLOCK - 1])
def test_short_writes_are_continued(tmp_path, content, disk, taken):
    """Short writes are continued, even after less than a sector, where O_DIRECT cannot continue."""

    def short(descriptor, view, offset):
        if not is_direct(descriptor):
            return None
        with (tmp_path / "out").open("r+b") as file:
            file.seek(offset)
            return file.write(view[:taken])

    disk.on("pwrite", "out", short)
    assert write(tmp_path / "out", content) == bytes(content)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("after", [0, 2])
def test_file_system_that_refuses_o_direct_at_a_write_gets_plain_ones(tmp_path, content, disk, error, after):
    asked = []
    if not takes_o_direct(tmp_path):
        pytest.skip("the tests' folder knows no O_DIRECT")

    def refuse(descriptor, *_):
        if is_direct(descriptor):
            asked.append(descriptor)
            raise OSError(error, os.strerror(error))

    disk.on("pwrite", "out", refuse, after=after)
    assert write(tmp_path / "out", content) == bytes(content)
    assert len(asked) == 1


def test_file_system_that_refuses_to_open_with_o_direct_gets_plain_writes(tmp_path, content, monkeypatch):
    real = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert write(tmp_path / "out", content) == bytes(content)


def test_system_without_posix_fadvise_writes_the_same(tmp_path, content, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise")
    assert write(tmp_path / "out", content) == bytes(content)


FULL = "The disk is full; out could not be written. Make room and run the same command again."


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        ("pwrite", errno.ENOSPC, FULL),
        ("pwrite", errno.EDQUOT, FULL),
        ("pwrite", errno.EIO, "out could not be written: Input/output error."),
        ("fsync", errno.EIO, "out could not be written: Input/output error."),
        ("fsync", errno.ENOSPC, FULL),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_write_that_fails_is_one_sentence(tmp_path, content, disk, call, error, sentence, after):
    disk.fail(call, "out", error, after=after if call == "pwrite" else 0)
    with pytest.raises(Failure) as caught:
        write(tmp_path / "out", content)
    assert str(caught.value) == sentence


def test_disk_that_takes_nothing_is_not_asked_for_ever(tmp_path, content, disk):
    disk.on("pwrite", "out", lambda *_: 0)
    with pytest.raises(Failure, match="out could not be written: Input/output error"):
        write(tmp_path / "out", content)


def test_modes_do_not_depend_on_the_umask(tmp_path, content):
    before = os.umask(0o077)
    try:
        write(tmp_path / "out", content)
        write_small(tmp_path / "small", b"{}")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"out": 0o644, "small": 0o644}


def test_small_file_that_cannot_be_written_is_one_sentence(tmp_path, disk):
    disk.fail("fsync", "small", errno.EDQUOT)
    with pytest.raises(Failure, match="The disk is full; small could not be written"):
        write_small(tmp_path / "small", b"{}")


def test_folder_that_cannot_be_synced_is_reported_by_file_systems_that_can(tmp_path, disk):
    disk.fail("fsync", tmp_path.name, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
    disk.heal()
    disk.fail("fsync", tmp_path.name, errno.EINVAL)
    sync_folder(tmp_path)


def test_small_file_is_described_by_its_hashes(tmp_path):
    line = write_small(tmp_path / "small", b"hello\n")
    assert line == {
        "path": "small",
        "size": 6,
        "sha256": hashlib.sha256(b"hello\n").hexdigest(),
        "git_sha1": "ce013625030ba8dba906f756967f9e9ca394464a",
    }


@pytest.mark.parametrize(
    ("name", "size", "lfs"),
    [("tokenizer.model", 6, True), ("tokenizer.json", 10 * 2**20, False), ("tokenizer.json", 10 * 2**20 + 1, True)],
)  # fmt: skip
def test_git_id_is_the_pointers_where_a_hub_repository_keeps_the_file_in_lfs(tmp_path, name, size, lfs):
    line = write_small(tmp_path / name, bytes(size))
    assert line["git_sha1"] == (pointer_id(line["sha256"], size) if lfs else blob_id(bytes(size)))
