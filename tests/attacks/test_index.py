"""Indexes that point outside the folder: only plain names of regular files in the folder are opened."""

import os

import pytest

from tests.attacks.kit import bin_entries, naive, sound_tensors, write_index, write_tensors, write_zip

READ = """
import json
table = json.load(open("diff/model.safetensors.index.json"))["weight_map"]
for file in set(table.values()):
    print(len(open("diff/" + file, "rb").read()))
"""


def point(world, file, suffix="safetensors"):
    world.weights.unlink(missing_ok=True)
    name = f"{'model' if suffix == 'safetensors' else 'pytorch_model'}.{suffix}.index.json"
    return write_index(world.diff, dict.fromkeys(sound_tensors(), file), name)


def test_index_that_points_out_of_the_folder_is_refused(world):
    point(world, "../secret.safetensors")
    assert naive(READ, world.root).stdout == f"{world.secret.stat().st_size}\n"
    assert world.refused() == (
        "The diff cannot be used: diff names the file '../secret.safetensors', which is not a plain file name."
    )


PLACES = {
    "a way up": "../secret.safetensors",
    "a way up and down": "../diff/../secret.safetensors",
    "a way down and up": "a/../../secret.safetensors",
    "this folder": "./model.safetensors",
    "a folder": "a/model.safetensors",
    "absolute": "/etc/passwd.safetensors",
    "backslashes": "..\\secret.safetensors",
    "a drive": "C:\\secret.safetensors",
    "a share": "\\\\host\\share\\x.safetensors",
    "home": "~/x.safetensors",
    "an address": "https://example.org/x.safetensors",
    "a file address": "file:///etc/x.safetensors",
    "a NUL": "secret\0.safetensors",
    "a line break": "a\n.safetensors",
    "a terminal's escape": "\x1b[2J.safetensors",
    "half a letter": "\ud800.safetensors",
    "5000 letters": "a" * 5000 + ".safetensors",
    "only a suffix": ".safetensors",
    "missing": "gone.safetensors",
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_index_with_a_name_that_is_no_file_of_the_folder_is_refused(world, case):
    (world.diff / "a").mkdir()
    point(world, PLACES[case])
    assert any(
        part in world.refused()
        for part in ("which is not a plain file name", "belongs to other weights", "lacks the file")
    )


@pytest.mark.parametrize(
    "file",
    ["config.json", "../secret", "..", "", 7, None, ["a.safetensors"], {"a": 1}, True, "pytorch_model.bin"],
)
def test_index_that_names_no_weights_is_refused(world, file):
    point(world, file)
    assert "into something that is not a .safetensors file" in world.refused()


@pytest.mark.parametrize("file", ["../secret.bin", "model.safetensors", "config.json"])
def test_index_of_bin_files_is_no_more_trusted(world, file):
    write_zip(world.root / "secret.bin", bin_entries(sound_tensors()))
    point(world, file, "bin")
    world.refused()


def test_index_that_names_itself_is_refused(world):
    point(world, "model.safetensors.index.json")
    assert "into something that is not a .safetensors file" in world.refused()


@pytest.mark.parametrize("weight_map", [None, [], {}, "a", 7, [["a", "b.safetensors"]]])
def test_index_without_a_table_is_refused(world, weight_map):
    world.weights.unlink()
    write_index(world.diff, weight_map)
    assert "model.safetensors.index.json has no weight_map" in world.refused()


def test_index_that_is_a_link_out_of_the_folder_is_refused(world):
    path = point(world, "x.safetensors")
    path.rename(world.root / "index.json")
    path.symlink_to("../index.json")
    assert "is a link out of the folder" in world.refused()


def test_file_of_the_index_that_is_a_link_out_of_the_folder_is_refused(world):
    point(world, "part.safetensors")
    (world.diff / "part.safetensors").symlink_to("../secret.safetensors")
    assert naive(READ, world.root).stdout == f"{world.secret.stat().st_size}\n"
    assert "'part.safetensors' in diff is a link out of the folder" in world.refused()


def test_file_of_the_index_that_is_a_folder_or_a_pipe_is_refused(world):
    point(world, "part.safetensors")
    (world.diff / "part.safetensors").mkdir()
    assert "'part.safetensors' in diff is not a regular file" in world.refused()
    (world.diff / "part.safetensors").rmdir()
    os.mkfifo(world.diff / "part.safetensors")
    assert "'part.safetensors' in diff is not a regular file" in world.refused()


def test_index_of_ten_thousand_files_opens_none_when_the_first_is_missing(world):
    world.weights.unlink()
    write_index(world.diff, {f"t{n}": f"{n:05}.safetensors" for n in range(10_000)})
    assert "lacks 10000 of the 10000 files that its model.safetensors.index.json names" in world.refused()


def test_index_that_keeps_a_tensor_back_is_refused(world):
    """Nothing would check a tensor that is in the file but missing from the index."""
    world.weights.rename(world.diff / "part.safetensors")
    write_tensors(world.diff / "part.safetensors", {**sound_tensors(), "hidden": ("U8", (4,), b"evil")})
    write_index(world.diff, dict.fromkeys(sound_tensors(), "part.safetensors"))
    assert "part.safetensors holds 'hidden', which the index does not list there" in world.refused()
