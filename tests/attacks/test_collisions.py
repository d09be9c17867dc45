"""Diff files named like our own files: the index, the manifest, a shard, the records of unfinished work."""

import json

import pytest

from tests.attacks.kit import sound_tensors

STATE = ("recovery.json", "checked.json", "lock", "whole.lock", "model.safetensors.done.json", "model.safetensors.lock",
         "base-checked.json", "result")  # fmt: skip


@pytest.mark.parametrize("name", STATE)
def test_file_named_like_our_own_records_is_only_a_file(world, name):
    content = json.dumps({"identity": "x", "sha256": "0" * 64, "size": 1}).encode()
    (world.diff / name).write_bytes(content)
    made = world.made()
    assert made[name] == content
    assert len(made["model.safetensors"]) > 600


def test_index_of_the_diff_never_becomes_the_results(world):
    for name in (
        "model.safetensors.index.json",
        "MODEL.SAFETENSORS.INDEX.JSON",
        "pytorch_model.bin.index.json",
    ):
        (world.diff / name).write_text('{"weight_map": {"lm_head.weight": "../evil.safetensors"}}')
    made = world.made()
    assert [name for name in made if "index" in name.lower()] == []


def test_index_of_the_diff_never_replaces_the_one_that_is_written(world):
    (world.diff / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../evil.safetensors"}}')
    made = world.made("--max-shard-size", "300")
    weight_map = json.loads(made["model.safetensors.index.json"])["weight_map"]
    assert set(weight_map) == set(sound_tensors())
    assert set(weight_map.values()) == {name for name in made if name.endswith(".safetensors")}


def test_file_named_like_a_shard_of_the_result_is_left_out(world):
    (world.diff / "model-00001-of-00002.safetensors").write_bytes(b"evil")
    made = world.made("--max-shard-size", "300")
    assert b"evil" not in made.values()


def test_manifest_of_another_result_is_replaced(world):
    manifest = {
        "engine": "gatehouse-recovery",
        "engine_version": "1",
        "action": "prune",
        "identity": "x",
        "files": [],
    }
    (world.diff / "weights.manifest.json").write_text(json.dumps(manifest))
    made = world.made()
    assert {entry["path"] for entry in json.loads(made["weights.manifest.json"])["files"]} == set(made) - {
        "weights.manifest.json"
    }
