"""Whole files, and the index, are byte for byte those that weight_diff.py writes."""

import functools
import itertools

import pytest

from tests.model_ops.recovery import models, plain

torch = models.torch

DTYPES = ("F32", "F16", "BF16")
KINDS = ("safetensors", "bin")
SEVERAL = "60KB"
SHAPES = {
    "plain": {},
    "grown": {"new_rows": 1},
    "tied": {"tied": True},
    "sharded": {"new_rows": 1, "shards": SEVERAL},
}


class Checkpoints:
    """Bases and diffs of every shape, each made once."""

    def __init__(self, folder):
        self.folder = folder
        self.base, self.diff = functools.cache(self._base), functools.cache(self._diff)

    def _base(self, shape, dtype, kind):
        model = models.make_model(tied=SHAPES[shape].get("tied", False))
        return self._save("base", model, shape, dtype, kind)

    def _diff(self, shape, dtype, kind):
        """Return a model with every value changed a little.

        The sum does not depend on the base it was made from.
        """
        tuned = models.make_model(tied=SHAPES[shape].get("tied", False), seed=1)
        grown = models.tune(tuned, new_rows=SHAPES[shape].get("new_rows", 0))
        return self._save("diff", grown, shape, dtype, kind)

    def _save(self, role, model, shape, dtype, kind):
        folder = self.folder / f"{role}-{shape}-{dtype}-{kind}"
        return models.save(model, folder, dtype, kind, SHAPES[shape].get("shards", "5GB"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize(
    ("base_dtype", "diff_dtype", "kind", "shape"),
    list(itertools.product(DTYPES, DTYPES, KINDS, SHAPES)),
)
def test_recover_of_every_mix_equals_weight_diff(checkpoints, tmp_path, base_dtype, diff_dtype, kind, shape):
    base, diff = checkpoints.base(shape, base_dtype, kind), checkpoints.diff(shape, diff_dtype, kind)
    shards = SHAPES[shape].get("shards", "5GB")
    models.oracle_recover(base, diff, tmp_path / "oracle", shards)
    plain.recover(base, diff, tmp_path / "out", max_shard_size=shards)
    made = models.weights_of(tmp_path / "out")
    assert made == models.weights_of(tmp_path / "oracle")
    assert ("model.safetensors.index.json" in made) == (shape == "sharded")


@pytest.mark.parametrize("shards", ["1KB", "25KB", "100KB"])
@pytest.mark.parametrize(("tied", "new_rows"), [(False, 0), (False, 7), (True, 0), (True, 7)])
def test_shards_and_index_are_those_of_save_pretrained(tmp_path, tied, new_rows, shards):
    model = models.make_model(tied=tied, layers=3)
    base = models.save(model, tmp_path / "base", "F16", "safetensors", "80KB")
    diff = models.save(models.tune(model, new_rows=new_rows), tmp_path / "diff", "F32", "bin", "40KB")
    models.oracle_recover(base, diff, tmp_path / "oracle", shards)
    plain.recover(base, diff, tmp_path / "out", max_shard_size=shards)
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


@pytest.mark.parametrize(("base_format", "diff_format"), [KINDS, KINDS[::-1]])
def test_format_of_one_side_does_not_matter_to_the_other(checkpoints, tmp_path, base_format, diff_format):
    plain.recover(
        checkpoints.base("grown", "F16", base_format),
        checkpoints.diff("grown", "F32", diff_format),
        tmp_path / "out",
    )
    models.oracle_recover(
        checkpoints.base("grown", "F16", KINDS[0]),
        checkpoints.diff("grown", "F32", KINDS[0]),
        tmp_path / "oracle",
    )
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


@pytest.mark.parametrize("tied", [False, True])
def test_files_of_many_blocks_equal_weight_diff(tmp_path, tied):
    """Embeddings of 12 MB, which cross the engine's blocks, equal weight_diff's."""
    model = models.make_model(vocab=12_000, hidden=256, tied=tied, layers=1)
    base = models.save(model, tmp_path / "base", "BF16")
    diff = models.save(models.tune(model, new_rows=1), tmp_path / "diff", "F32")
    models.oracle_recover(base, diff, tmp_path / "oracle")
    plain.recover(base, diff, tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


EMBEDDING = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("vocab", "hidden", "rows", "dtype"),
    [
        (128_000, 64, 1, "F16"), (128_000, 33, 2, "BF16"), (32_000, 63, 1, "F32"), (32_000, 100, 5, "F16"),
        (9_000, 2040, 1, "BF16"), (9_000, 1000, 3, "F32"), (256_000, 95, 1, "F16"), (1, 31, 3, "F32"),
    ],
)  # fmt: skip
def test_new_rows_of_a_large_vocabulary_have_the_bits_of_the_plain_mean(tmp_path, vocab, hidden, rows, dtype):
    """New rows equal `e.float()[:V].mean(0)` for any number of threads.

    Blocks do not divide the row count.
    """
    base = plain.random_state(1, {EMBEDDING: (vocab, hidden)}, (models.DTYPES[dtype],))
    diff = plain.random_state(2, {EMBEDDING: (vocab + rows, hidden)}, (torch.float16,))
    plain.recover(
        plain.write_state(tmp_path / "base", base),
        plain.write_state(tmp_path / "diff", diff),
        tmp_path / "out",
    )
    made, old = plain.state_of(tmp_path / "out")[EMBEDDING], base[EMBEDDING].float()
    assert torch.equal(made[:vocab], diff[EMBEDDING][:vocab].float() + old)
    for threads in (3, 2, 1):
        torch.set_num_threads(threads)
        assert torch.equal(made[vocab:], diff[EMBEDDING][vocab:].float() + old.mean(0, keepdim=True))


@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_mixed_within_one_checkpoint_equal_weight_diff(tmp_path, kind):
    model = models.make_model()
    sides = {}
    for side, source, turn in (("base", model, 0), ("diff", models.tune(model), 1)):
        names = source.state_dict()
        state = {
            name: value.detach().to(models.DTYPES[DTYPES[(number + turn) % 3]])
            for number, (name, value) in enumerate(names.items())
        }
        sides[side] = models.save_state(source.config, state, tmp_path / side, kind)
    models.oracle_recover(sides["base"], sides["diff"], tmp_path / "oracle")
    plain.recover(sides["base"], sides["diff"], tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


ODD_SHAPES = {
    "a": (), "b": (0,), "c": (1,), "d": (3, 0, 5), "e": (7, 11, 13), "f": (4_194_303,), "g": (2, 33), "h": (5,),
    "i": (1021, 1023), "j": (), "k": (9,),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_of_odd_sizes_in_mixed_dtypes_are_the_plain_sum(tmp_path, dtype, kind):
    """Scalars, empty tensors, odd counts and one value less than a block are summed correctly."""
    dtypes = (torch.float16, torch.float32, torch.bfloat16)
    base = plain.random_state(1, ODD_SHAPES, dtypes)
    diff = plain.random_state(2, ODD_SHAPES, dtypes[1:])
    plain.recover(
        plain.write_state(tmp_path / "base", base, kind=kind),
        plain.write_state(tmp_path / "diff", diff, kind=kind),
        tmp_path / "out", dtype=dtype,
    )  # fmt: skip
    expected = {name: (diff[name].float() + base[name].float()).to(getattr(torch, dtype)) for name in base}
    plain.write_state(tmp_path / "expected", expected)
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "expected")


def every_bit_pattern(dtype):
    """Return all 65,536 values of a 16-bit dtype: zeros, subnormals, infinities, every NaN."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)


@pytest.mark.parametrize("base_dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("diff_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_value_of_a_16_bit_dtype_adds_as_torch_adds_it(tmp_path, base_dtype, diff_dtype, dtype):
    special = torch.tensor([0.0, -0.0, 1e-7, 3.0, float("inf"), float("-inf"), float("nan"), 6e4])
    drawn = every_bit_pattern(torch.bfloat16)[
        torch.randperm(2**16, generator=torch.Generator().manual_seed(0))[:16]
    ]
    partners = torch.cat([special, drawn.float()]).to(diff_dtype)
    base = {"w": every_bit_pattern(base_dtype).repeat(len(partners))}
    diff = {"w": partners.repeat_interleave(2**16)}
    expected = (diff["w"].float() + base["w"].float()).to(getattr(torch, dtype))
    result = plain.recover(
        plain.write_state(tmp_path / "base", base), plain.write_state(tmp_path / "diff", diff), tmp_path / "out",
        dtype=dtype, non_finite="report",
    )  # fmt: skip
    made = plain.state_of(tmp_path / "out")["w"]
    bits = torch.int32 if dtype == "float32" else torch.int16
    differing = made.view(bits) != expected.view(bits)
    assert result.non_finite == int(expected.isfinite().logical_not().sum())
    if dtype == "float32":
        assert not differing.any()
    else:  # the resulting NaN depends on the processor when 16-bit values are added in one step
        assert bool((made[differing].isnan() & expected[differing].isnan()).all())
