"""make_diff against the peer's subtraction, and what recovers: both methods, counted independently."""

import itertools
import json

import pytest

from tests.model_ops.recovery import models, plain

torch = models.torch

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BITS = {"F32": torch.int32, "F16": torch.int16, "BF16": torch.int16}
SHAPES = {"plain": (False, 0), "grown": (False, 2), "tied": (True, 0), "tied and grown": (True, 2)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return a function that makes (shape, base dtype, tuned dtype) into folders of base and tuned."""
    folder, made = tmp_path_factory.mktemp("pairs"), {}

    def pair(shape, base_dtype, tuned_dtype):
        tied, rows = SHAPES[shape]
        for role, dtype in (("base", base_dtype), ("tuned", tuned_dtype)):
            if (role, shape, dtype) not in made:
                model = models.make_model(tied=tied)
                model = models.tune(model, new_rows=rows) if role == "tuned" else model
                made[role, shape, dtype] = models.save(model, folder / f"{role}-{shape}-{dtype}", dtype)
        return made["base", shape, base_dtype], made["tuned", shape, tuned_dtype]

    return pair


@pytest.mark.parametrize(
    ("shape", "base_dtype", "tuned_dtype"),
    [
        *itertools.product(["plain", "tied and grown"], DTYPES, DTYPES),
        ("grown", "F32", "F16"),
        ("tied", "F16", "BF16"),
    ],
)
def test_make_diff_equals_the_peer_and_counts_what_recover_does_not_bring_back(
    pairs, tmp_path, shape, base_dtype, tuned_dtype
):
    base, tuned = pairs(shape, base_dtype, tuned_dtype)
    made = plain.make_diff(base, tuned, tmp_path / "diff")
    models.oracle_diff(base, models.load(tuned), tmp_path / "oracle")
    assert models.weights_of(tmp_path / "diff") == models.weights_of(tmp_path / "oracle")
    plain.recover(base, tmp_path / "diff", tmp_path / "out", dtype=DTYPES[tuned_dtype])
    assert made.not_restored == lost(tmp_path / "out", tuned, tuned_dtype)
    if tuned_dtype != "F32" and not SHAPES[shape][0]:
        assert made.not_restored == negative_zeros(tuned)


def lost(out, tuned, dtype):
    """Return how many values differ in any bit."""
    found, wanted = plain.state_of(out), plain.state_of(tuned)
    assert found.keys() == wanted.keys()
    return sum(int(found[name].view(BITS[dtype]).ne(wanted[name].view(BITS[dtype])).sum()) for name in wanted)


def negative_zeros(folder):
    """Count negative zeros, which only -0 + -0 gives: they are all that 16-bit weights lose."""
    return sum(int(((values == 0) & values.signbit()).sum()) for values in plain.state_of(folder).values())


@pytest.mark.parametrize("diff_dtype", ["F16", "BF16"])
@pytest.mark.parametrize("shape", ["grown", "tied"])
def test_rounded_diff_equals_the_peers_and_counts_what_the_rounding_costs(pairs, tmp_path, shape, diff_dtype):
    base, tuned = pairs(shape, "BF16", "BF16")
    made = plain.make_diff(base, tuned, tmp_path / "diff", dtype=DTYPES[diff_dtype], max_shard_size="60KB")
    models.oracle_diff(base, models.load(tuned), tmp_path / "oracle", diff_dtype, shard_size="60KB")
    assert models.weights_of(tmp_path / "diff") == models.weights_of(tmp_path / "oracle")
    plain.recover(base, tmp_path / "diff", tmp_path / "out", dtype="bfloat16")
    assert made.not_restored == lost(tmp_path / "out", tuned, "BF16") > 0
    manifest = json.loads((tmp_path / "diff/weights.manifest.json").read_text())["round_trip"]
    assert (manifest["not_restored"], manifest["values"]) == (made.not_restored, made.values)
    assert sum(manifest["tensors"].values()) == made.not_restored
    assert manifest["values"] == sum(values.numel() for values in plain.state_of(tuned).values())


def exclusive_or(payload, base):
    """Return what OpenAssistant's xor_codec does to one file, with big integers instead of blocks."""
    base = base[: len(payload)].ljust(len(payload), b"\0")
    whole = int.from_bytes(payload, "little") ^ int.from_bytes(base, "little")
    return whole.to_bytes(len(payload), "little")


@pytest.mark.parametrize(
    ("base_size", "tuned_size"), [(12_000_003, 11_000_001), (9_000_001, 12_000_007), (8_388_608, 8_388_609), (1, 5000)]
)  # fmt: skip
def test_xor_of_files_of_many_blocks_is_the_plain_one_both_ways(tmp_path, base_size, tuned_size):
    """Any bytes come back, for lengths that end within, at and beyond a block of the engine."""
    generator = torch.Generator().manual_seed(1)
    data = {}
    for role, size in (("base", base_size), ("tuned", tuned_size)):
        (tmp_path / role).mkdir()
        values = torch.randint(0, 256, (size,), generator=generator, dtype=torch.uint8)
        data[role] = values.numpy().tobytes()
        (tmp_path / role / "pytorch_model.bin").write_bytes(data[role])
    plain.make_diff(tmp_path / "base", tmp_path / "tuned", tmp_path / "diff", method="xor")
    made = (tmp_path / "diff/pytorch_model.bin").read_bytes()
    assert made == exclusive_or(data["tuned"], data["base"])
    assert exclusive_or(made, data["base"]) == data["tuned"]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_xor_of_sharded_checkpoints_restores_every_file(tmp_path, kind):
    model = models.make_model()
    base = models.save(model, tmp_path / "base", "BF16", kind, "60KB")
    tuned = models.save(models.tune(model, new_rows=1), tmp_path / "tuned", "BF16", kind, "60KB")
    plain.make_diff(base, tuned, tmp_path / "diff", method="xor")
    plain.recover(base, tmp_path / "diff", tmp_path / "out", method="xor")
    restored = plain.files_of(tmp_path / "out")
    assert restored.pop("weights.manifest.json")
    assert restored == plain.files_of(tuned)
