"""Whole files byte for byte as weight_diff.py would write them."""

import pytest

from model_ops.recovery.options import Options
from model_ops.recovery.plan import make_plan
from model_ops.recovery.run import execute
from tests.model_ops.recovery import models

DTYPES = ("F32", "F16", "BF16")


def recovered(base, diff, out, **options):
    execute(make_plan(base, diff, Options(**options)), out)
    return models.weights_of(out)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("diff_dtype", DTYPES)
@pytest.mark.parametrize("base_dtype", DTYPES)
def test_recover_in_every_mix_of_dtypes_equals_weight_diff(tmp_path, base_dtype, diff_dtype, kind):
    model = models.make_model()
    base = models.save(model, tmp_path / "base", base_dtype, kind)
    diff = models.oracle_diff(base, models.tune(model, new_rows=1), tmp_path / "diff", diff_dtype, kind)
    models.oracle_recover(base, diff, tmp_path / "oracle")
    assert recovered(base, diff, tmp_path / "out") == models.weights_of(tmp_path / "oracle")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("shards", ["5GB", "60KB"])
@pytest.mark.parametrize("new_rows", [0, 1, 7])
@pytest.mark.parametrize("tied", [False, True])
def test_recover_of_every_shape_equals_weight_diff(tmp_path, tied, new_rows, shards, kind):
    model = models.make_model(tied=tied)
    base = models.save(model, tmp_path / "base", "F16", kind, shards)
    tuned = models.tune(model, new_rows=new_rows)
    diff = models.oracle_diff(base, tuned, tmp_path / "diff", "F32", kind, shards)
    models.oracle_recover(base, diff, tmp_path / "oracle", shards)
    made = recovered(base, diff, tmp_path / "out", max_shard_size=shards)
    assert made == models.weights_of(tmp_path / "oracle")
    assert (len(made) > 1) == (shards == "60KB")
