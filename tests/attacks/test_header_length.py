"""The first 8 bytes of a safetensors file give the length of its header, and may hold any number."""

import pytest

from tests.attacks.kit import floats, header_of, naive, sound_tensors, write_safetensors

READ = """
import json, struct
file = open("model.safetensors", "rb")
length, = struct.unpack("<Q", file.read(8))
header = bytearray(length)
file.readinto(header)
json.loads(header)
"""
LENGTHS = {
    "2**63": (2**63, "claims a header of 9223372036854775808 bytes; at most"),
    "2**63 - 1": (2**63 - 1, "claims a header of 9223372036854775807 bytes; at most"),
    "2**64 - 1, which is -1 with a sign": (2**64 - 1, "claims a header of 18446744073709551615 bytes; at most"),
    "2**64 - 8, which is -8 with a sign": (2**64 - 8, "claims a header of 18446744073709551608 bytes; at most"),
    "2**32, which is 0 in 32 bits": (2**32, "claims a header of 4294967296 bytes; at most"),
    "2**31": (2**31, "claims a header of 2147483648 bytes; at most"),
    "a byte more than is read": (32 * 1024 * 1024 + 1, "claims a header of 33554433 bytes; at most"),
    "longer than the file": (10_000, "claims a header of 10000 bytes but is only"),
    "none": (0, "it is not valid JSON"),
    "a byte too few": (-1, "it is not valid JSON"),
    "a byte too many": (+1, "it is not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", LENGTHS)
def test_header_length_that_lies_is_refused(world, name):
    length, sentence = LENGTHS[name]
    tensors = sound_tensors()
    raw = write_safetensors(world.weights, header_of(tensors), floats(500)).read_bytes()
    if length in {-1, +1}:
        length += int.from_bytes(raw[:8], "little")
    world.weights.write_bytes(length.to_bytes(8, "little") + raw[8:])
    assert sentence in world.refused()


@pytest.mark.parametrize("length", [2**63, 2**40])
def test_header_length_kills_a_reader_that_trusts_it(world, length):
    world.weights.write_bytes(length.to_bytes(8, "little") + b"{}")
    done = naive(READ, world.diff, memory=1 << 30)
    assert done.stderr.splitlines()[-1].split(":")[0] in {"MemoryError", "OverflowError"}
    assert "claims a header of" in world.refused()


@pytest.mark.parametrize("size", [1, 7])
def test_file_shorter_than_the_length_itself_is_refused(world, size):
    world.weights.write_bytes(b"\x08\0\0\0\0\0\0\0"[:size])
    assert f"is too short for a safetensors file ({size} bytes)" in world.refused()


def test_file_of_10_gb_that_is_all_zeros_is_refused(world):
    world.weights.write_bytes(b"")
    with world.weights.open("r+b") as file:
        file.truncate(10 * 10**9)
    assert "model.safetensors begins with zeros: its download did not finish" in world.refused()
