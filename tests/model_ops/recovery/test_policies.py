"""Choices that differ from weight_diff.py's own: new rows, and the dtype written.

Whole files are compared.
"""

import pytest

from tests.model_ops.recovery import models, plain

GROW = {"mean": models.grow_with_mean, "zero": models.grow_with_zero, "skip": None}


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    model = models.make_model(tied=request.param)
    base = models.save(model, folder / "base", "BF16")
    return base, models.save(models.tune(model, new_rows=3), folder / "diff", "F32")


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("policy", sorted(GROW))
def test_every_policy_and_dtype_equals_its_peers_files(pair, tmp_path, policy, dtype):
    shards = "60KB" if dtype == "F16" else "5GB"
    models.oracle_recover(*pair, tmp_path / "oracle", shards, grow=GROW[policy], dtype=dtype)
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    plain.recover(*pair, tmp_path / "out", resize_policy=policy, dtype=names[dtype], max_shard_size=shards)
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")
