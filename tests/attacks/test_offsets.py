"""Tensors that overlap, lie outside the file, or are listed in a different order."""

import json
import struct

import pytest

from tests.attacks.kit import (
    SHAPES,
    floats,
    header_of,
    product,
    sound_tensors,
    write_safetensors,
    write_tensors,
)

NORM, PROJ = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
SECRET = b"what stands behind the file"


def put(world, change, data=None):
    """Write the valid diff with a changed header."""
    tensors = sound_tensors(0.5)
    header = header_of(tensors)
    change(header)
    plain = b"".join(part for _, _, part in tensors.values())
    write_safetensors(world.weights, header, plain if data is None else data)
    return header


def moved(name, begin, end):
    return lambda header: header[name].update(data_offsets=[begin, end])


def place(name):
    return header_of(sound_tensors())[name]["data_offsets"]


TOTAL = sum(4 * product(shape) for shape in SHAPES.values())
BEGIN, END = place(NORM)
ATTACKS = {
    "one tensor over another": (moved(NORM, 0, 32), "overlaps"),
    "one tensor half over another": (moved(NORM, BEGIN - 16, END - 16), "overlaps"),
    "both over each other": (
        lambda header: header.update({"model.layers.0.mlp.up_proj.weight": {**header["lm_head.weight"], "shape": [6, 8]}}),
        "overlaps",
    ),
    "end before begin": (moved(NORM, END, BEGIN), "lies at bytes"),
    "behind the file": (moved(NORM, TOTAL, TOTAL + 32), "outside of the file's"),
    "a byte beyond the file": (moved(NORM, BEGIN + 1, END + 1), "outside of the file's"),
    "far behind the file": (moved(NORM, 2**62, 2**62 + 32), "outside of the file's"),
    "the end wraps round 2**64": (moved(NORM, 2**64 - 16, 16), "data_offsets that are not two positions"),
    "the sum wraps round 2**64": (moved(NORM, 2**64 - 32, 2**64), "data_offsets that are not two positions"),
    "before the file": (moved(NORM, -32, 0), "data_offsets that are not two positions"),
    "in the header": (moved(NORM, -8, 24), "data_offsets that are not two positions"),
    "a fraction": (moved(NORM, float(BEGIN), float(END)), "data_offsets that are not two positions"),
    "a text": (moved(NORM, str(BEGIN), str(END)), "data_offsets that are not two positions"),
    "true": (moved(NORM, False, True), "data_offsets that are not two positions"),
    "infinity": (moved(NORM, BEGIN, float("inf")), "data_offsets that are not two positions"),
    "none": (moved(NORM, None, None), "data_offsets that are not two positions"),
    "three": (lambda header: header[NORM].update(data_offsets=[BEGIN, END, END]), "data_offsets that are not two positions"),
    "a table": (lambda header: header[NORM].update(data_offsets={"0": BEGIN}), "data_offsets that are not two positions"),
    "a gap": (lambda header: header.pop(PROJ), "leaves a gap after"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_offsets_that_lie_are_refused(world, name):
    change, sentence = ATTACKS[name]
    header = put(world, change)
    assert json.dumps(header) != json.dumps(header_of(sound_tensors(0.5))), "this header is no attack"
    assert sentence in world.refused()


def test_offset_before_the_data_reads_something_else_in_a_plain_reader(world):
    header = put(world, moved(NORM, -32, 0))
    raw = world.weights.read_bytes()
    data = memoryview(raw)[8 + len(json.dumps(header)) :]
    begin, end = header[NORM]["data_offsets"]
    assert bytes(data[begin:end]) != floats(8, 0.5)  # Python counts negative indices from the end
    world.refused()


def test_hidden_bytes_between_or_behind_tensors_are_refused(world):
    """A valid checkpoint could otherwise carry 60 KB that nobody sees."""
    data = b"".join(part for _, _, part in sound_tensors(0.5).values())
    put(world, lambda header: None, data + SECRET)
    assert "but its header describes" in world.refused()


def test_tensors_listed_in_another_order_than_they_lie_are_read_where_they_lie(world):
    """Early writers listed tensors in any order, so this is valid; a reader that ignores the offsets mixes them up."""
    tensors = sound_tensors()
    values = dict(zip(tensors, (1.0, 2.0, 3.0, 4.0), strict=True))
    tensors = {
        name: (dtype, shape, floats(product(shape), values[name]))
        for name, (dtype, shape, _) in tensors.items()
    }
    header = header_of(tensors)
    write_safetensors(
        world.weights, dict(reversed(header.items())), b"".join(data for _, _, data in tensors.values())
    )
    naive_first = struct.unpack_from("<f", world.weights.read_bytes(), 8 + len(json.dumps(header)))
    assert (next(iter(dict(reversed(header.items())))), naive_first) == (
        NORM,
        (1.0,),
    )  # and yet 1.0 is lm_head's
    made = world.made()["model.safetensors"]
    length = int.from_bytes(made[:8], "little")
    written = json.loads(made[8 : 8 + length])
    found = {
        name: struct.unpack_from("<f", made, 8 + length + written[name]["data_offsets"][0])[0]
        for name in SHAPES
    }
    base = {name: struct.unpack("<f", data[:4])[0] for name, (_, _, data) in sound_tensors().items()}
    assert found == {name: value + base[name] for name, value in values.items()}


def test_empty_tensors_at_one_place_are_no_overlap(world):
    """Empty ranges may share an offset, and a result is made from them."""
    empty = {f"model.layers.{n}.empty": ("F32", (0, 8), b"") for n in range(3)}
    for folder in (world.base, world.diff):
        write_tensors(folder / "model.safetensors", {**sound_tensors(), **empty})
    assert "model.safetensors" in world.made()
