"""Folders and indexes: only regular files in the folder itself are opened."""

import json

import pytest

from model_ops.recovery.checkpoints.checkpoint import read_checkpoint
from model_ops.recovery.errors import Refusal
from tests.model_ops.recovery import plain

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    made = plain.write(tmp_path / "model", vocab=10, hidden=32)
    (made / "model.safetensors").rename(made / "part.safetensors")
    return made


def names(folder):
    (folder / "part.safetensors").rename(folder / "model.safetensors")
    found = list(read_checkpoint(folder, "base").tensors)
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    return found


def refused(folder):
    with pytest.raises(Refusal) as caught:
        read_checkpoint(folder, "base")
    return str(caught.value)


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_index_that_names_every_tensor_is_read(folder):
    write_index(folder, dict.fromkeys(names(folder), "part.safetensors"))
    assert read_checkpoint(folder, "base").files == ("part.safetensors",)


@pytest.mark.parametrize(
    "file",
    ["../part.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..safetensors/", "a\0.safetensors"],
)
def test_index_that_points_elsewhere_is_refused(folder, file):
    write_index(folder, {"a": file})
    assert "which is not a plain file name" in refused(folder) or "is not a .safetensors file" in refused(
        folder
    )


def test_index_that_misses_a_tensor_or_names_one_too_many_is_refused(folder):
    known = names(folder)
    write_index(folder, dict.fromkeys(known[1:], "part.safetensors"))
    assert "which the index does not list there" in refused(folder)
    write_index(folder, dict.fromkeys([*known, "more"], "part.safetensors"))
    assert "the index puts 'more' into part.safetensors, but it is not there" in refused(folder)


def test_index_of_a_missing_file_is_refused(folder):
    write_index(folder, {"a": "gone.safetensors"})
    assert refused(folder) == (
        "The base's model.safetensors.index.json belongs to other weights: it names 'gone.safetensors', but the weights here are "
        "'part.safetensors'. Download the index that belongs to them, or delete this one: the tensors are then found in the "
        "headers of the shards."
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "\xff"])
def test_index_that_is_none_is_refused(folder, text):
    (folder / INDEX).write_text(text, encoding="latin-1")
    assert refused(folder).startswith(("The base cannot be used: ", f"The base's {INDEX} is empty: "))


def test_link_out_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "secret").write_bytes((folder / "part.safetensors").read_bytes())
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")
    assert "is a link out of the folder" in refused(folder)


def test_snapshot_of_a_hub_cache_is_read_through_its_links(folder, tmp_path):
    repo = tmp_path / "models--a--b"
    (repo / "blobs").mkdir(parents=True)
    snapshot = repo / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for source, name in (("part.safetensors", "model.safetensors"), ("config.json", "config.json")):
        (folder / source).rename(repo / "blobs" / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert read_checkpoint(snapshot, "base").format == "safetensors"


def test_folder_without_weights_or_no_folder_is_refused(tmp_path):
    assert "does not exist or cannot be read" in refused(tmp_path / "nowhere")
    assert "holds no weights" in refused(tmp_path)


def test_fifo_instead_of_a_file_is_refused(folder):
    import os

    os.mkfifo(folder / "model.safetensors")
    assert "is not a regular file" in refused(folder)
