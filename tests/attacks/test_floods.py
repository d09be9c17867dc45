"""NaN, infinity and numbers that are too large, few or many: an addition passes them on silently."""

import json
import struct

import pytest

from tests.attacks.kit import product, sound_tensors, write_tensors


def test_addition_passes_nan_on_without_a_word():
    flood, weight = struct.unpack("<2f", b"\x00\x00\xc0\x7f\x00\x00\x80\x3f")
    assert str(flood + weight) == "nan"


FLOODS = {
    "all NaN": (b"\x00\x00\xc0\x7f", 1),
    "one NaN": (b"\x00\x00\xc0\x7f", None),
    "NaN with a payload": (b"\xef\xbe\xad\x7f", 1),
    "negative NaN": (b"\xff\xff\xff\xff", 1),
    "infinity": (b"\x00\x00\x80\x7f", 1),
    "the greatest number, twice": (b"\xff\xff\x7f\x7f", 1),
}


@pytest.mark.parametrize("case", FLOODS)
def test_flood_of_values_that_are_not_finite_makes_nothing(world, case):
    value, every = FLOODS[case]
    tensors = sound_tensors()
    flooded = {
        name: (dtype, shape, value * product(shape) if every else data[:-4] + value)
        for name, (dtype, shape, data) in tensors.items()
    }
    write_tensors(world.weights, flooded)
    if "twice" in case:
        write_tensors(world.base / "model.safetensors", flooded)
    assert "value(s) that are NaN or infinite" in world.failed()
    made = world.made("--non-finite", "report")
    count = json.loads(made["weights.manifest.json"])["non_finite"]
    assert count == (sum(product(shape) for _, shape, _ in tensors.values()) if every else len(tensors))
    assert "NaN" not in made["weights.manifest.json"].decode()


def test_numbers_that_are_too_large_only_for_the_output_are_counted(world):
    """100,000 fits into a float32 but is infinite as a float16."""
    write_tensors(world.weights, sound_tensors(100_000.0))
    assert "value(s) that are NaN or infinite" in world.failed("--dtype", "float16")
    assert "model.safetensors" in world.made()


def test_negative_zeros_are_numbers(world):
    zeros = {
        name: (dtype, shape, b"\0\0\0\x80" * product(shape))
        for name, (dtype, shape, _) in sound_tensors().items()
    }
    write_tensors(world.weights, zeros)
    write_tensors(world.base / "model.safetensors", zeros)
    assert world.made()["model.safetensors"].endswith(b"\0\0\0\x80" * 8)
