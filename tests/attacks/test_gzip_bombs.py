"""XOR payloads compressed with gzip that expand to far more than their size, or give a false size."""

import gzip

import pytest

BIG = 100_000_000
XOR = ("--method", "xor")


@pytest.fixture
def payload(world):
    """Return the weights of the diff, XORed with those of the base and not yet compressed."""
    base, tuned = (folder / "model.safetensors" for folder in (world.base, world.diff))
    return bytes(a ^ b for a, b in zip(tuned.read_bytes(), base.read_bytes(), strict=True))


def put(world, raw):
    (world.diff / "model.safetensors").write_bytes(raw)


def test_compressed_payload_is_decoded_so_the_refusals_mean_something(world, payload):
    tuned = (world.diff / "model.safetensors").read_bytes()
    put(world, gzip.compress(payload))
    assert world.made(*XOR)["model.safetensors"] == tuned


def test_bomb_is_refused(world, payload):
    raw = gzip.compress(payload + bytes(BIG))
    assert len(gzip.decompress(raw)) > 900 * len(raw)
    put(world, raw)
    assert "far more than the" in world.refused(*XOR)


def test_bomb_that_claims_to_be_small_fails_at_the_size_it_claims(world, payload):
    raw = gzip.compress(payload + bytes(BIG))
    put(world, raw[:-4] + (10**7).to_bytes(4, "little"))
    assert "holds more than the 10000000 bytes" in world.failed(*XOR)


def test_few_bytes_that_claim_very_many_are_refused(world, payload):
    raw = gzip.compress(payload)
    put(world, raw[:-4] + (2**31).to_bytes(4, "little"))
    assert "compressed bytes can hold" in world.refused(*XOR)
