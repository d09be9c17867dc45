"""Zips that expand to far more than their size, or claim to: entries are never unpacked and must not share bytes."""

import io
import json
import zipfile

import pytest

from tests.attacks.kit import bin_entries, product, sound_tensors, state_pickle, write_zip
from tests.attacks.zips import End, Entry, pack, zip64_extra

BIG = 4_000_000


def put(world, raw):
    (world.diff / "model.safetensors").unlink()
    (world.diff / "pytorch_model.bin").write_bytes(raw)


def sound_entries():
    return [Entry(name.encode(), data) for name, data in bin_entries(sound_tensors(0.5)).items()]


def unpacked(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        return sum(len(file.read(name)) for name in file.namelist())


def test_hand_made_zip_is_read_so_the_refusals_mean_something(world):
    put(world, pack(sound_entries()))
    assert world.plan().status == 0


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/data/0", "archive/unused"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_bomb_is_refused(world, name, method):
    entries = bin_entries(sound_tensors())
    (world.diff / "model.safetensors").unlink()
    path = world.diff / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as file:
        for other, data in entries.items():
            if other != name:
                file.writestr(other, data)
        file.writestr(name, bytes(BIG), method)
    assert unpacked(path.read_bytes()) > 500 * path.stat().st_size
    assert world.refused() == (
        "The diff cannot be used: pytorch_model.bin holds compressed entries, which are not read; save it again with "
        "torch.save."
    )


def test_entries_that_share_their_bytes_are_refused(world):
    """A bomb without compression: many names for the same bytes."""
    kernel = Entry(b"archive/data/0", bytes(1_000_000))
    names = [Entry(b"archive/data/%d" % n, b"", header=0, size=1_000_000, listed=True) for n in range(1, 200)]
    shared = [Entry(e.name, b"", local_name=b"", header=0, size=e.size) for e in names]
    raw = pack([kernel, *shared])
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        assert sum(info.file_size for info in file.infolist()) > 100 * len(raw)
    put(world, raw)
    assert "does not match the zip directory" in world.refused()


def test_entries_that_overlap_are_refused(world):
    inner = pack([Entry(b"archive/inner", b"x" * 100)])
    local = inner[: inner.index(b"PK\1\2")]
    outer = Entry(b"archive/outer", b"y" * 10 + local)
    at = len(b"archive/outer") + 30 + 10
    put(world, pack([outer, Entry(b"archive/inner", b"x" * 100, header=at)]))
    assert "overlap at 'archive/inner'" in world.refused()


def test_same_entry_listed_a_thousand_times_is_refused(world):
    put(world, pack([Entry(b"archive/data/0", bytes(1000), header=0) for _ in range(1000)]))
    assert "holds the entry 'archive/data/0' twice" in world.refused()


COUNTS = {
    "65535": End(count=0xFFFF),
    "a million in zip64": End(count=0xFFFF, zip64=(1_000_000, 1_000_000 * 46, 0)),
    "2**40 in zip64": End(count=0xFFFF, zip64=(2**40, 2**40 * 46, 0)),
    "2**64 - 1 in zip64": End(count=0xFFFF, size=0xFFFFFFFF, offset=0xFFFFFFFF, zip64=(2**64 - 1,) * 3),
    "more than there are": End(count=8),
    "size of 4 GB": End(size=0xFFFFFFFF),
}


@pytest.mark.parametrize("name", COUNTS)
def test_directory_that_claims_too_much_is_refused(world, name):
    put(world, pack(sound_entries(), COUNTS[name]))
    world.refused()


def test_a_hundred_thousand_entries_and_one_are_refused_unread(world):
    count, lines = 100_001, b"\x01" * (46 * 100_001)
    put(
        world,
        pack(
            [],
            End(count=0xFFFF, size=0xFFFFFFFF, offset=0, zip64=(count, len(lines), 0), after_directory=lines),
        ),
    )
    assert f"claims a directory of {count} entries" in world.refused()


LIES = {
    "size beyond the file": Entry(b"archive/data/9", b"1234", size=1_000_000),
    "size of 4 GB without zip64": Entry(b"archive/data/9", b"1234", size=0xFFFFFFFF),
    "size of 2**63 in zip64": Entry(
        b"archive/data/9", b"1234", size=0xFFFFFFFF, extra=zip64_extra(2**63, 2**63)
    ),
    "place of 2**64 - 1 in zip64": Entry(
        b"archive/data/9", b"1234", header=0xFFFFFFFF, extra=zip64_extra(2**64 - 1)
    ),
    "zip64 without values": Entry(b"archive/data/9", b"1234", size=0xFFFFFFFF, extra=zip64_extra()),
    "sizes that differ": Entry(b"archive/data/9", b"1234", size=0xFFFFFFFF, extra=zip64_extra(4, 5)),
    "local size": Entry(b"archive/data/9", b"1234", local_size=1_000_000),
    "local compression": Entry(b"archive/data/9", b"1234", local_method=8),
    "local flags": Entry(b"archive/data/9", b"1234", local_flags=1),
    "encrypted": Entry(b"archive/data/9", b"1234", flags=1),
}


@pytest.mark.parametrize("name", LIES)
def test_entry_that_lies_about_its_size_is_refused(world, name):
    put(world, pack([*sound_entries(), LIES[name]]))
    sentence = world.refused()
    assert "archive/data/9" in sentence or "pytorch_model.bin" in sentence


def test_file_quoted_in_an_entry_is_no_second_file(world):
    """The content of an entry is a whole zip, whose directory is not taken for the outer one."""
    inner = pack([Entry(b"evil/data.pkl", b"cos\nsystem\n.")])
    put(world, pack([*sound_entries(), Entry(b"archive/data/inner", inner)]))
    assert world.plan().status == 0


def test_many_names_on_one_storage_are_counted_before_the_disk_fills(world):
    """A small diff with many tied names can mean much output; the plan gives its size for the space check."""
    tensors = {f"model.layers.{n}.weight": ("F32", (100, 100), bytes(40_000)) for n in range(50)}
    one = state_pickle(dict.fromkeys(tensors, ("F32", (100, 100), b"")))
    for key in range(1, 50):
        one = one.replace(b"X\x01\x00\x00\x00%d" % key if key < 10 else b"X\x02\x00\x00\x00%d" % key,
                          b"X\x01\x00\x00\x000")  # fmt: skip
    entries = {"archive/data.pkl": one, "archive/data/0": bytes(40_000)}
    for folder in (world.base, world.diff):
        (folder / "model.safetensors").unlink()
        write_zip(folder / "pytorch_model.bin", entries)
    size = (world.diff / "pytorch_model.bin").stat().st_size
    outcome = world.plan("--json")
    assert outcome.status == 0, outcome.stderr
    plan = json.loads(outcome.stdout)
    expected = sum(4 * product(shape) for _, shape, _ in tensors.values())
    assert plan["bytes_to_write"] > expected > 10 * size
