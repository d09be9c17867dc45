"""Repeated names: one reader takes the first, another the last, so the checked value might not be the one used."""

import json
from collections import OrderedDict

import pytest

from tests.attacks.kit import (
    bin_entries,
    dictionary,
    floats,
    header_of,
    sound_tensors,
    storage,
    tensor,
    text,
    write_index,
    write_safetensors,
    write_tensors,
)

NORM = "model.norm.weight"


def doubled(text, name, value):
    """Return the JSON object with another `name` at its end."""
    return f"{text[:-1]}, {json.dumps(name)}: {json.dumps(value)}}}"


def test_name_twice_in_a_header_is_refused(world):
    tensors = sound_tensors(0.5)
    header = header_of(tensors)
    other = {**header[NORM], "data_offsets": [0, 32]}
    raw = doubled(json.dumps(header), NORM, other)
    last = json.loads(raw)[NORM]
    first = json.loads(raw, object_pairs_hook=lambda pairs: OrderedDict(reversed(pairs)))[NORM]
    assert last == other != header[NORM] == dict(first)
    write_safetensors(world.weights, raw.encode(), b"".join(data for _, _, data in tensors.values()))
    assert f"the name '{NORM}' is in it twice" in world.refused()


@pytest.mark.parametrize("key", ["dtype", "shape", "data_offsets"])
def test_key_of_a_tensor_twice_in_a_header_is_refused(world, key):
    tensors = sound_tensors(0.5)
    header = header_of(tensors)
    raw = json.dumps(header).replace(f'"{key}":', f'"{key}": null, "{key}":', 1)
    assert json.loads(raw) == header
    write_safetensors(world.weights, raw.encode(), b"".join(data for _, _, data in tensors.values()))
    assert f"the name '{key}' is in it twice" in world.refused()


def test_name_written_in_two_ways_in_a_header_is_refused(world):
    tensors = sound_tensors(0.5)
    raw = doubled(json.dumps(header_of(tensors)), NORM, {}).replace('"model.norm', '"\\u006dodel.norm', 1)
    write_safetensors(world.weights, raw.encode(), b"".join(data for _, _, data in tensors.values()))
    assert f"the name '{NORM}' is in it twice" in world.refused()


@pytest.fixture
def sharded(world):
    """Write the diff as two files."""
    world.weights.unlink()
    tensors = list(sound_tensors(0.5).items())
    write_tensors(world.diff / "a.safetensors", dict(tensors[:2]))
    write_tensors(world.diff / "b.safetensors", dict(tensors[2:]))
    places = [("a.safetensors", tensors[:2]), ("b.safetensors", tensors[2:])]
    world.weight_map = {name: file for file, some in places for name, _ in some}
    write_index(world.diff, world.weight_map)
    return world


def test_sharded_diff_is_read_so_the_refusals_mean_something(sharded):
    assert sharded.plan().status == 0


def test_tensor_in_two_files_is_refused(sharded):
    tensors = {
        name: value for name, value in sound_tensors(9.0).items() if sharded.weight_map[name][0] == "b"
    }
    write_tensors(
        sharded.diff / "b.safetensors", {**tensors, "lm_head.weight": sound_tensors(9.0)["lm_head.weight"]}
    )
    assert sharded.refused() == (
        "The diff cannot be used: b.safetensors holds 'lm_head.weight', which the index does not list there, and loaders "
        "differ in whether they read it. Delete model.safetensors.index.json if the tensor belongs to the model; else take the "
        "tensor out of the file."
    )


def test_tensor_listed_in_two_files_is_refused(sharded):
    raw = json.dumps({"weight_map": sharded.weight_map})
    raw = doubled(raw[:-1], "lm_head.weight", "b.safetensors") + "}"
    (sharded.diff / "model.safetensors.index.json").write_text(raw)
    assert json.loads(raw)["weight_map"]["lm_head.weight"] == "b.safetensors"
    assert "the name 'lm_head.weight' is in it twice" in sharded.refused()


def test_two_weight_maps_are_refused(sharded):
    raw = doubled(json.dumps({"weight_map": sharded.weight_map}), "weight_map", {"x": "../x.safetensors"})
    (sharded.diff / "model.safetensors.index.json").write_text(raw)
    assert "the name 'weight_map' is in it twice" in sharded.refused()


def test_name_twice_in_a_pickle_is_refused(world):
    one = tensor(storage("3", 8), 0, (8,), (1,))
    pickled = dictionary({NORM: one})[:-2] + text(NORM) + one + b"u."
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))
    assert f"names '{NORM}' twice" in world.refused()


def test_name_filled_in_twice_by_a_pickle_is_refused(world):
    one = tensor(storage("3", 8), 0, (8,), (1,))
    pickled = b"\x80\x02}" + text(NORM) + one + b"s" + text(NORM) + one + b"s."
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))
    assert f"names '{NORM}' twice" in world.refused()


def test_one_file_beside_an_index_is_the_one_that_is_read_and_the_other_is_not_copied(sharded):
    """Like transformers, read the single file. The shard is not copied: another reader might prefer it."""
    write_tensors(sharded.weights, sound_tensors(0.25))
    made = sharded.made()
    length = int.from_bytes(made["model.safetensors"][:8], "little")
    assert made["model.safetensors"][8 + length :][:4] == floats(1, 1.25)
    assert [name for name in made if "safetensors" in name] == ["model.safetensors"]


def test_weights_in_a_second_format_do_not_reach_the_result(world):
    for name in (
        "pytorch_model.bin",
        "tf_model.h5",
        "model.PTH",
        "evil.pt",
        "flax_model.msgpack",
        "other.safetensors",
    ):
        (world.diff / name).write_bytes(b"evil")
    assert set(world.made()) == {
        "model.safetensors",
        "config.json",
        "tokenizer_config.json",
        "weights.manifest.json",
    }
