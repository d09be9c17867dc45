"""Sums of every 16-bit value, and what is counted along the way."""

import json

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")

from tests.model_ops.recovery import plain  # noqa: E402

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
NAME = "model.norm.weight"


def manifest_of(folder):
    return json.loads((folder / "weights.manifest.json").read_bytes())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [plain.recover, plain.make_diff])
def test_every_16_bit_value_is_added_in_float32_and_rounded_once(tmp_path, dtype, make):
    kind = DTYPES[dtype]
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(kind)
    every = every[torch.isfinite(every)].repeat(16)
    order = torch.randperm(every.numel(), generator=torch.Generator().manual_seed(0))
    base = plain.write_state(tmp_path / "base", {NAME: every[order]})
    first = plain.write_state(tmp_path / "first", {NAME: every})
    make(base, first, tmp_path / "out", dtype=dtype, non_finite="report")
    sign = 1 if make is plain.recover else -1
    wanted = (every.float() + sign * every[order].float()).to(kind)
    found = plain.state_of(tmp_path / "out")[NAME]
    assert torch.equal(found.view(torch.int16), wanted.view(torch.int16))
    assert manifest_of(tmp_path / "out")["non_finite"] == int((~torch.isfinite(wanted)).sum())
