"""float64 is read as in transformers: values are rounded to the dtype the model is loaded in, then added."""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.memory import job_memory
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import models, plain

torch = models.torch

EMBEDDING = "model.embed_tokens.weight"
SHAPES = {EMBEDDING: (301, 65), "model.layers.0.mlp.up_proj.weight": (1201, 1409), "model.norm.weight": (65,)}
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MIXES = [("F64", dtype) for dtype in DTYPES] + [(dtype, "F64") for dtype in DTYPES if dtype != "F64"]


def state(seed, dtype, shapes=SHAPES):
    """Return values that only float64 can hold; some lie halfway between two values of a smaller dtype."""
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}
    for values in made.values():
        flat = values.view(-1)
        flat *= 1 + 2.0**-30
        for start, smaller in enumerate((torch.float32, torch.float16, torch.bfloat16)):
            some = flat[start::5].to(smaller)
            above = torch.nextafter(some, torch.tensor(float("inf"), dtype=smaller))
            flat[start::5] = (some.double() + above.double()) / 2
        flat[4] = 2.0**-1060
    return {name: values.to(DTYPES[dtype]) for name, values in made.items()}


def folders(tmp_path, kind="safetensors", **states):
    return [plain.write_state(tmp_path / role, each, kind=kind) for role, each in states.items()]


def assert_holds(folder, expected):
    found = plain.state_of(folder)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        bits = torch.int32 if values.dtype is torch.float32 else torch.int16
        assert torch.equal(found[name].view(bits), values.view(bits)), name


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("mix", MIXES, ids="-".join)
def test_recover_rounds_to_float32_then_adds(tmp_path, mix, kind):
    base, diff = state(1, mix[0]), state(2, mix[1])
    plain.recover(*folders(tmp_path, kind, base=base, diff=diff), tmp_path / "out")
    assert_holds(tmp_path / "out", {name: diff[name].float() + base[name].float() for name in diff})


def test_recover_casts_the_float32_sum_once(tmp_path):
    base, diff = state(1, "F64"), state(2, "F64")
    plain.recover(*folders(tmp_path, base=base, diff=diff), tmp_path / "out", dtype="bfloat16")
    expected = {name: (diff[name].float() + base[name].float()).bfloat16() for name in diff}
    assert_holds(tmp_path / "out", expected)


def test_recover_equals_transformers(tmp_path):
    """The result equals the reference itself: transformers loading both models in float32."""
    model = models.make_model()
    for role, each in (("base", model), ("diff", models.tune(model))):
        values = {name: value.double() * (1 + 2.0**-30) for name, value in each.state_dict().items()}
        models.save_state(model.config, values, tmp_path / role)
    models.oracle_recover(tmp_path / "base", tmp_path / "diff", tmp_path / "oracle")
    plain.recover(tmp_path / "base", tmp_path / "diff", tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


@pytest.mark.parametrize("policy", ["mean", "zero"])
def test_new_rows_are_made_from_the_rounded_base(tmp_path, policy):
    base, diff = state(1, "F64"), state(2, "F64", {**SHAPES, EMBEDDING: (305, 65)})
    plain.recover(*folders(tmp_path, base=base, diff=diff), tmp_path / "out", resize_policy=policy)
    old = base[EMBEDDING].float()
    new = old.mean(0) if policy == "mean" else torch.zeros(65)
    grown = torch.cat([old, new.repeat(4, 1)])
    assert torch.equal(plain.state_of(tmp_path / "out")[EMBEDDING], diff[EMBEDDING].float() + grown)


@pytest.mark.parametrize("mix", MIXES, ids="-".join)
def test_make_diff_subtracts_rounded_values_and_counts_what_does_not_come_back(tmp_path, mix):
    base, tuned = state(1, mix[0]), state(2, mix[1])
    made = plain.make_diff(*folders(tmp_path, base=base, tuned=tuned), tmp_path / "diff")
    diff = {name: tuned[name].float() - base[name].float() for name in tuned}
    assert_holds(tmp_path / "diff", diff)
    again = {name: (diff[name] + base[name].float()).to(tuned[name].dtype) for name in tuned}
    assert made.not_restored == sum(int(again[name].ne(tuned[name]).sum()) for name in tuned) > 0


def test_manifest_of_a_diff_names_float64(tmp_path):
    inputs = folders(tmp_path, base=state(1, "F64"), tuned=state(2, "F64"))
    plain.make_diff(*inputs, tmp_path / "diff")
    manifest = json.loads((tmp_path / "diff/weights.manifest.json").read_text())
    assert manifest["round_trip"]["dtypes"] == ["float64"]
    assert {fact["dtype"] for fact in manifest["base_tensors"].values()} == {"F64"}


@pytest.mark.parametrize(("made_from", "stored"), [("F64", "F32"), ("F32", "F64"), ("F64", "F64")])
def test_base_in_the_other_dtype_is_known_by_its_values(tmp_path, made_from, stored):
    base = {name: values.float() for name, values in state(1, "F32").items()}
    known = {name: values.to(DTYPES[made_from]) for name, values in base.items()}
    other = {name: values.to(DTYPES[stored]) for name, values in base.items()}
    base_folder, tuned, again = folders(tmp_path, base=known, tuned=state(2, "F32"), again=other)
    plain.make_diff(base_folder, tuned, tmp_path / "diff")
    plain.recover(again, tmp_path / "diff", tmp_path / "out")
    plain.recover(base_folder, tmp_path / "diff", tmp_path / "same")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "same")


def test_base_with_values_that_only_float64_holds_is_not_the_float32_base(tmp_path):
    base = state(1, "F32")
    other = {name: values.double() * (1 + 2.0**-40) for name, values in base.items()}
    base_folder, tuned, wrong = folders(tmp_path, base=base, tuned=state(2, "F32"), wrong=other)
    plain.make_diff(base_folder, tuned, tmp_path / "diff")
    with pytest.raises(Refusal, match="not the base that the diff was made from"):
        plain.recover(wrong, tmp_path / "diff", tmp_path / "out")


def test_finite_value_beyond_float32_is_counted_as_infinite(tmp_path):
    diff = {"w": torch.tensor([1.0, 1.0])}
    base = {"w": torch.tensor([1e300, 1.0], dtype=torch.float64)}
    made = plain.recover(*folders(tmp_path, base=base, diff=diff), tmp_path / "out", non_finite="report")
    assert made.non_finite == 1


def test_plan_names_float64_and_counts_eight_bytes_a_value(tmp_path):
    base, diff, small = folders(tmp_path, base=state(1, "F64"), diff=state(2, "F32"), small=state(1, "F32"))
    plan = make_plan(base, diff)
    assert "base: 3 tensors, float64, safetensors" in plan.summary()
    assert plan.to_json()["dtype"] == "float32"
    tasks, fewer = plan.shards[0].tasks, make_plan(small, diff).shards[0].tasks
    assert job_memory(tasks, "F32") * 3 == job_memory(fewer, "F32") * 4


def test_float64_is_not_offered_as_an_output(tmp_path):
    with pytest.raises(Refusal, match="use one of float32, float16, bfloat16"):
        Options(dtype="float64")
    masks = {"w": torch.ones(2, dtype=torch.bool)}
    with pytest.raises(
        Refusal, match="only float32, float16, bfloat16, float64, and whole numbers of one dtype"
    ):
        make_diff_plan(*folders(tmp_path, base=masks, tuned=masks))
