"""`--compat fastchat` writes the same files as FastChat's apply_delta and make_delta, in float16."""

import json

import pytest

from tests.model_ops.recovery import models, plain

torch = models.torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# LLaMA's tensor names with odd sizes, and one tensor larger than a block of the engine.
SHAPES = {
    "lm_head.weight": (97, 65), "model.embed_tokens.weight": (97, 65), "model.layers.0.mlp.up_proj.weight": (3001, 1409),
    "model.norm.weight": (65,),
}  # fmt: skip


def apply_delta(base, delta):
    """Do what apply_delta.py does: load both in float16, then `param.data += delta.state_dict()[name]`."""
    result = {name: values.to(torch.float16, copy=True) for name, values in base.items()}
    for name, values in result.items():
        values += delta[name].half()
    return result


def make_delta(base, target):
    """Do what make_delta.py does: the same, with `-=` on the target."""
    result = {name: values.to(torch.float16, copy=True) for name, values in target.items()}
    for name, values in result.items():
        values -= base[name].half()
    return result


def folders(tmp_path, kind="safetensors", **states):
    return [plain.write_state(tmp_path / role, state, kind=kind) for role, state in states.items()]


def assert_holds(folder, state, tmp_path):
    assert models.weights_of(folder) == models.weights_of(plain.write_state(tmp_path / "expected", state))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("delta_dtype", DTYPES)
@pytest.mark.parametrize("base_dtype", DTYPES)
def test_recover_in_every_mix_of_dtypes_equals_apply_delta(tmp_path, base_dtype, delta_dtype, kind):
    base = plain.random_state(1, SHAPES, (base_dtype,))
    delta = plain.random_state(2, SHAPES, (delta_dtype,))
    plain.recover(*folders(tmp_path, kind, base=base, delta=delta), tmp_path / "out", compat="fastchat")
    assert_holds(tmp_path / "out", apply_delta(base, delta), tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_output_dtype_is_the_cast_of_what_apply_delta_makes(tmp_path, dtype):
    base, delta = plain.random_state(1, SHAPES), plain.random_state(2, SHAPES)
    plain.recover(
        *folders(tmp_path, base=base, delta=delta), tmp_path / "out", compat="fastchat", dtype=dtype
    )
    expected = apply_delta(base, delta)
    assert_holds(
        tmp_path / "out", {name: v.to(getattr(torch, dtype)) for name, v in expected.items()}, tmp_path
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_make_diff_equals_make_delta_and_counts_what_apply_delta_does_not_restore(tmp_path, dtype):
    base = plain.random_state(1, SHAPES, (dtype,))
    tuned = plain.random_state(2, SHAPES, (dtype,))
    delta = make_delta(base, tuned)
    made = plain.make_diff(*folders(tmp_path, base=base, tuned=tuned), tmp_path / "diff", compat="fastchat")
    assert_holds(tmp_path / "diff", delta, tmp_path)
    again = apply_delta(base, delta)
    lost = sum(int(again[name].to(dtype).ne(tuned[name]).sum()) for name in tuned)
    assert (made.not_restored, made.values) == (lost, sum(v.numel() for v in tuned.values()))
    assert lost > 0


def test_new_rows_with_policy_zero_are_the_delta_s_as_in_the_forks_of_fastchat(tmp_path):
    """As in Chimera: the base is resized with rows of zeros, then everything is float16."""
    grown = {**SHAPES, "lm_head.weight": (101, 65), "model.embed_tokens.weight": (101, 65)}
    base = plain.random_state(1, SHAPES, (torch.bfloat16,))
    delta = plain.random_state(2, grown, (torch.float16,))
    resized = {name: torch.zeros_like(delta[name]) for name in grown}
    for name, values in base.items():
        resized[name][: len(values)] = values.half()
    plain.recover(
        *folders(tmp_path, base=base, delta=delta), tmp_path / "out", compat="fastchat", resize_policy="zero"
    )
    assert_holds(tmp_path / "out", apply_delta(resized, delta), tmp_path)


def test_value_too_large_for_float16_is_found_although_the_sum_would_fit(tmp_path):
    """70,000 - 10,000 would fit, but FastChat's float16 makes 70,000 infinite, whatever dtype is written."""
    base = {"w": torch.tensor([7e4, 1.0])}
    delta = {"w": torch.tensor([-1e4, 1.0])}
    inputs = folders(tmp_path, base=base, delta=delta)
    result = plain.recover(*inputs, tmp_path / "out", compat="fastchat", dtype="float32", non_finite="report")
    assert result.non_finite == 1
    assert plain.state_of(tmp_path / "out")["w"].tolist() == [float("inf"), 2.0]
    manifest = json.loads((tmp_path / "out/weights.manifest.json").read_text())
    assert manifest["tensors"]["w"]["non_finite"] == 1
