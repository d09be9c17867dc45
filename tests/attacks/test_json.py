"""JSON that is deeply nested, huge or invalid, everywhere it is read: header, index, configuration, manifest."""

import json
import tracemalloc

import pytest

from tests.attacks.kit import CONFIG, header_of, naive, sound_tensors, write_index, write_safetensors

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
DEEP_LIST = "[" * 100_000 + "]" * 100_000
BOMBS = {
    "deep": DEEP,
    "deep list": DEEP_LIST,
    "deep and open": "[" * 1_000_000,
    "a number of a million digits": '{"a": ' + "9" * 1_000_000 + "}",
    "half a letter": '{"a": "\ud800',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a control character": b'{"a": "\x01"}',
    "single quotes": "{'a': 1}",
    "a comment": '{"a": 1} // all is well',
    "two objects": '{"a": 1}{"a": 2}',
    "code": "__import__('os').system('touch PWNED')",
    "a text": '"text"',
    "a list": "[1]",
    "NaN": "NaN",
    "nothing": "",
    "zeros": "\0" * 100,
}


def encoded(name):
    bomb = BOMBS[name]
    return bomb if isinstance(bomb, bytes) else bomb.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", BOMBS)
def test_header_that_is_a_bomb_is_refused(world, name):
    write_safetensors(world.weights, encoded(name), b"")
    assert "eader of model.safetensors" in world.refused()


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json", "weights.manifest.json"])
def test_json_file_that_is_a_bomb_is_refused(world, file, name):
    if "index" in file:
        world.weights.unlink()
    (world.diff / file).write_bytes(encoded(name))
    said = world.refused()
    endings = ("is not valid JSON", "does not hold a JSON object", "is cut short or damaged", "is empty")
    assert any(f"{file} {ending}" in said for ending in endings)


def test_depth_ends_a_plain_reader(world):
    (world.root / "deep.json").write_text(DEEP)
    assert "RecursionError" in naive("import json; json.load(open('deep.json'))", world.root).stderr


@pytest.mark.parametrize("item", ["[]", '""'])
@pytest.mark.parametrize("file", ["header", "config.json"])
def test_two_million_items_are_refused_before_they_take_memory(world, file, item):
    raw = b'{"a": [' + b",".join([item.encode()] * 2_000_001) + b"]}"
    if file == "header":
        write_safetensors(world.weights, raw, b"")
    else:
        (world.diff / file).write_bytes(raw)
    assert "items, more than the 2000000 that are read" in world.refused()


ODD_CONFIGS = {
    "tie of a text": {**CONFIG, "tie_word_embeddings": "yes"},
    "tie of NaN": {**CONFIG, "tie_word_embeddings": float("nan")},
    "type of a list": {**CONFIG, "model_type": ["llama"]},
    "type of a table": {**CONFIG, "model_type": {"a": 1}},
    "type of 1e999": {**CONFIG, "model_type": float("inf")},
    "no tie and a type of a list": {"model_type": ["llama"]},
    "no tie and a type of a table": {"model_type": {"llama": 1}},
    "text_config of a list": {"model_type": "llama", "text_config": [{"tie_word_embeddings": True}]},
    "dtype of a table": {**CONFIG, "dtype": {"a": 1}, "torch_dtype": ["float32"]},
    "dtype that steers a terminal": {**CONFIG, "dtype": "\x1b[2J\u202e"},
    "huge sizes": {**CONFIG, "vocab_size": 10**4000, "hidden_size": float("-inf")},
    "code to load": {**CONFIG, "auto_map": {"AutoModel": "evil--model.Evil"}, "_name_or_path": "../../etc"},
    "empty": {},
}


@pytest.mark.parametrize("name", ODD_CONFIGS)
def test_configuration_that_is_odd_is_carried_as_it_is(world, name):
    """Only a plain true or false is used; apart from the dtype, the file reaches the result byte for byte."""
    raw = json.dumps(ODD_CONFIGS[name])
    (world.diff / "config.json").write_text(raw)
    made = json.loads(world.made()["config.json"])
    assert (
        json.dumps({**made, "dtype": 0, "torch_dtype": 0})
        == json.dumps({**ODD_CONFIGS[name], "dtype": 0, "torch_dtype": 0})
        or "dtype" not in made
    )


def test_configuration_of_many_brackets_takes_little_memory(world):
    (world.diff / "config.json").write_text('{"dtype": "float16", "a": [' + "[]," * 50_000 + "0]}")
    tracemalloc.start()
    try:
        assert world.plan().status == 0
        assert tracemalloc.get_traced_memory()[1] < 8 * 10**6
    finally:
        tracemalloc.stop()


def test_number_too_large_for_a_float_is_no_size(world):
    tensors = sound_tensors()
    raw = json.dumps(header_of(tensors)).replace('"shape": [8]', '"shape": [1e999]')
    write_safetensors(world.weights, raw.encode(), b"".join(data for _, _, data in tensors.values()))
    assert "a shape that is not a short list of sizes" in world.refused()


@pytest.mark.parametrize("value", [1e999, float("nan"), -1, 2**200, True, [7], {"a": 7}, None])
def test_metadata_that_is_no_text_is_refused(world, value):
    write_safetensors(world.weights, {"__metadata__": {"format": value}}, b"")
    assert (
        "The __metadata__ in the header of model.safetensors is not a table of texts"
        in world.refused().replace("the __metadata__", "The __metadata__")
    )


def test_index_of_half_letters_is_refused(world):
    world.weights.rename(world.diff / "part.safetensors")
    write_index(
        world.diff, {**dict.fromkeys(sound_tensors(), "part.safetensors"), "\ud800": "part.safetensors"}
    )
    assert "The index puts '\\ud800' into part.safetensors, but it is not there" in world.refused().replace(
        "the index", "The index"
    )
