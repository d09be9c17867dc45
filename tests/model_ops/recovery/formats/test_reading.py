"""Reading ranges of the inputs returns their bytes, or fails with a sentence that names the file."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from model_ops.recovery.errors import Cancelled, Failure
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.system.control import Control
from tests.model_ops.recovery.disk import Disk

CONTENT = bytes(number * 7 % 251 for number in range(100_000))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "input").write_bytes(CONTENT)
    return str(tmp_path / "input")


@pytest.fixture
def control():
    return Control()


@pytest.fixture
def reader(control):
    with contextlib.closing(Reader(control)) as reader:
        yield reader


def read(reader, path, offset, size):
    buffer = bytearray(size)
    reader.read_into(path, offset, memoryview(buffer))
    return bytes(buffer)


def test_ranges_are_read_in_any_order(reader, control, path):
    for offset, size in ((50_000, 50_000), (0, 1), (1, 49_999), (0, 100_000)):
        assert read(reader, path, offset, size) == CONTENT[offset : offset + size]
    assert control.bytes_read == 200_000


def test_short_reads_are_continued(reader, path, monkeypatch):
    disk, real = Disk(monkeypatch), os.pread

    def short(descriptor, buffers, offset):
        data = real(descriptor, min(len(buffers[0]), 777), offset)
        buffers[0][: len(data)] = data
        return len(data)

    disk.on("preadv", "input", short)
    assert read(reader, path, 3, 90_000) == CONTENT[3:90_003]


def test_unreadable_sector_is_a_failure_that_names_file_and_place(reader, path, monkeypatch):
    Disk(monkeypatch).fail("preadv", "input", errno.EIO, after=1)
    read(reader, path, 0, 4096)
    with pytest.raises(Failure) as caught:
        read(reader, path, 8192, 4096)
    assert str(caught.value) == (
        "input cannot be read at byte 8192: Input/output error; check its disk, or fetch the file again."
    )


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read at byte 0")
def test_file_that_the_kernel_cannot_read_is_a_failure(reader):
    """No process has memory at address 0, so this is a real input/output error from the kernel."""
    with pytest.raises(Failure, match=r"mem cannot be read at byte 0: Input/output error"):
        read(reader, "/proc/self/mem", 0, 10)


def test_file_cut_short_under_way_is_a_failure(reader, path):
    read(reader, path, 0, 10)
    os.truncate(path, 60_000)
    with pytest.raises(Failure, match="The input input was cut short under way"):
        read(reader, path, 50_000, 50_000)


def test_file_that_is_not_there_is_a_failure(reader, tmp_path):
    with pytest.raises(Failure, match="nowhere cannot be opened: No such file or directory"):
        read(reader, str(tmp_path / "nowhere"), 0, 1)


def test_nothing_is_read_after_a_cancel(reader, control, path):
    control.cancel()
    with pytest.raises(Cancelled):
        read(reader, path, 0, 1)


def test_system_without_posix_fadvise_reads_the_same(reader, path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise")
    assert read(reader, path, 5, 100) == CONTENT[5:105]


def test_system_that_takes_no_advice_reads_the_same(reader, path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    assert read(reader, path, 5, 100) == CONTENT[5:105]
