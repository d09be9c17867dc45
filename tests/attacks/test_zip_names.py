"""Entry names that climb out of a folder, or differ between readers. No entry is ever unpacked under its name."""

import io
import subprocess
import warnings
import zipfile

import pytest

from tests.attacks.kit import bin_entries, naive, sound_tensors
from tests.attacks.test_pickles import RUNS_CODE
from tests.attacks.zips import End, Entry, pack

UNPACK = """
import os, zipfile
with zipfile.ZipFile("pytorch_model.bin") as file:
    for info in file.infolist():
        target = os.path.join("model", info.filename)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "wb").write(file.read(info))
"""
EVIL = RUNS_CODE["REDUCE"][0]
SOUND = bin_entries(sound_tensors(0.5))


def sound_entries():
    return [Entry(name.encode(), data) for name, data in SOUND.items()]


def put(world, raw):
    (world.diff / "model.safetensors").unlink()
    (world.diff / "pytorch_model.bin").write_bytes(raw)
    return raw


@pytest.mark.parametrize("name", [b"archive/../../../PWNED", b"../../PWNED", b"../PWNED"])
def test_name_that_climbs_out_is_refused(world, name):
    (world.diff / "model").mkdir()
    put(world, pack([*sound_entries(), Entry(name, b"evil")]))
    assert naive(UNPACK, world.diff).returncode == 0
    climbed = [path for path in world.root.parent.rglob("PWNED") if "model" not in path.parts]
    assert climbed, "this name is no attack"
    for path in climbed:
        path.unlink()
    assert "holds an entry with the unsafe name" in world.refused()


def test_absolute_name_is_refused(world):
    target = world.root / "PWNED"
    put(world, pack([*sound_entries(), Entry(str(target).encode(), b"evil")]))
    naive(UNPACK, world.diff)
    assert target.read_bytes() == b"evil"
    target.unlink()
    assert "holds an entry with the unsafe name" in world.refused()


NAMES = {
    "backslashes": (b"archive\\..\\..\\PWNED", "unsafe name"),
    "a drive": (b"C:\\PWNED", "unsafe name"),
    "a terminal's escape": (b"archive/\x1b]0;PWNED\x07", "unsafe name"),
    "a line break": (b"archive/data/0\nINFO: all is well", "unsafe name"),
    "not UTF-8": (b"archive/data/\xff\xfe", "unsafe name"),
    "text that runs backwards": ("archive/data/\u202egpj.exe".encode(), "unsafe name"),
    "no name": (b"", "unsafe name"),
    "only a slash": (b"/", "unsafe name"),
    "doubled slash": (b"archive//data/0", "unsafe name"),
    "beside the archive": (b"data.pkl", "which torch.save does not write"),
    "another archive": (b"archive2/data/0", "which torch.save does not write"),
}


@pytest.mark.parametrize("case", NAMES)
def test_name_that_torch_never_writes_is_refused(world, case):
    name, sentence = NAMES[case]
    put(world, pack([*sound_entries(), Entry(name, b"evil")]))
    assert sentence in world.refused()


def test_name_that_ends_for_some_at_a_nul_is_refused(world):
    raw = put(world, pack([*sound_entries()[1:], Entry(b"archive/data.pkl\0.txt", EVIL)]))
    assert zipfile.ZipFile(io.BytesIO(raw)).namelist()[-1] == "archive/data.pkl"
    assert "unsafe name" in world.refused()


def test_name_that_is_there_twice_is_refused(world):
    raw = put(world, pack([*sound_entries(), Entry(b"archive/data.pkl", EVIL)]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = zipfile.ZipFile(io.BytesIO(raw))
        first, last = file.read(file.infolist()[0]), file.read("archive/data.pkl")
    assert (first, last) == (SOUND["archive/data.pkl"], EVIL)
    assert "holds the entry 'archive/data.pkl' twice" in world.refused()


def test_header_of_an_entry_that_says_otherwise_than_the_directory_is_refused(world):
    """A reader that unpacks from front to back and one that uses the directory would find different files."""
    pickled = Entry(b"archive/data.pkl", SOUND["archive/data.pkl"], local_name=b"archive/evil.pkl")
    put(world, pack([pickled, *sound_entries()[1:]]))
    assert "entry 'archive/data.pkl' in pytorch_model.bin does not match the zip directory" in world.refused()


def test_entry_that_the_directory_hides_is_refused(world):
    first = Entry(b"archive/data.pkl", EVIL, listed=False)
    raw = put(world, pack([first, *sound_entries()]))
    assert raw.startswith(b"PK\3\4")
    assert raw[30:].startswith(b"archive/data.pkl" + EVIL)
    assert "holds bytes before 'archive/data.pkl' that belong to no entry" in world.refused()


def test_entry_listed_behind_the_last_that_counts_is_refused(world):
    put(world, pack([*sound_entries(), Entry(b"archive/evil.pkl", EVIL)], End(count=len(SOUND))))
    assert f"holds more than the {len(SOUND)} entries it counts" in world.refused()


@pytest.mark.parametrize("place", ["prefix", "gap", "behind the entries", "behind the directory", "suffix"])
def test_bytes_that_belong_to_no_entry_are_refused(world, place):
    extra, entries = b"#!/bin/sh\ntouch PWNED\nexit\n", sound_entries()
    if place == "prefix":
        raw = pack(entries, prefix=extra)
    elif place == "gap":
        raw = pack([Entry(entries[0].name, entries[0].data, gap=extra), *entries[1:]])
    elif place == "behind the entries":
        raw = pack([*entries[:-1], Entry(entries[-1].name, entries[-1].data, gap=extra)])
    elif place == "behind the directory":
        raw = pack(entries, End(after_directory=extra))
    else:
        raw = pack(entries) + extra
    put(world, raw)
    if place == "prefix":
        assert zipfile.ZipFile(io.BytesIO(raw)).read("archive/version") == b"3\n"
        subprocess.run(["sh", str(world.diff / "pytorch_model.bin")], cwd=world.root, check=True)
        (world.root / "PWNED").unlink()  # both a valid zip and a valid script
    world.refused()


def test_comment_that_holds_a_second_end_is_refused(world):
    """Some readers look for the last end record, others for the one whose comment ends the file."""
    evil = pack([Entry(b"archive/data.pkl", EVIL)])
    raw = pack(sound_entries(), End(comment=evil))
    put(world, raw)
    assert "tampered" in (sentence := world.refused()) or "not where its end says" in sentence


def test_comment_is_refused(world):
    put(world, pack(sound_entries(), End(comment=b"made with love")))
    assert "does not end as a zip file does" in world.refused()


def test_two_directories_that_disagree_are_refused(world):
    """The old end record is limited to 4 GB; if it gives less than the zip64 record, one of them is false."""
    entries = sound_entries()
    raw = pack(entries)
    offset = raw.index(b"PK\1\2")
    put(world, pack(entries, End(count=1, zip64=(len(entries), raw.index(b"PK\5\6") - offset, offset))))
    assert "two directories that do not agree" in world.refused()


@pytest.mark.parametrize("where", [0, 5, 2**63])
def test_zip64_record_elsewhere_is_refused(world, where):
    entries = sound_entries()
    raw = pack(entries)
    offset = raw.index(b"PK\1\2")
    right = (len(entries), raw.index(b"PK\5\6") - offset, offset)
    put(world, pack(entries, End(zip64=right, where=where)))
    assert "zip64 directory" in world.refused()


def test_zip64_directory_that_tells_the_truth_is_read(world):
    entries = sound_entries()
    raw = pack(entries)
    offset = raw.index(b"PK\1\2")
    right = (len(entries), raw.index(b"PK\5\6") - offset, offset)
    put(world, pack(entries, End(count=0xFFFF, size=0xFFFFFFFF, offset=0xFFFFFFFF, zip64=right)))
    assert world.plan().status == 0


def test_file_in_several_parts_is_refused(world):
    put(world, pack(sound_entries(), End(disk=1)))
    assert "is a multi-part zip file" in world.refused()


def test_link_in_a_zip_is_only_bytes(world):
    """An entry may be marked as a symbolic link; links are never created from entries."""
    info = zipfile.ZipInfo("archive/data/9")
    info.external_attr = 0o120777 << 16
    path = world.diff / "pytorch_model.bin"
    (world.diff / "model.safetensors").unlink()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in SOUND.items():
            file.writestr(name, data)
        file.writestr(info, "/etc/passwd")
    assert world.plan().status == 0
