"""make_diff is the inverse of recover and reports how many values would not be recovered."""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import models

torch = models.torch


def make_pair(tmp_path, *, tied=False, new_rows=1, dtype="BF16", **options):
    model = models.make_model(tied=tied)
    base = models.save(model, tmp_path / "base", dtype)
    tuned = models.save(models.tune(model, new_rows=new_rows), tmp_path / "tuned", dtype)
    result = execute(make_diff_plan(base, tuned, Options(**options)), tmp_path / "diff")
    return base, tuned, tmp_path / "diff", result


@pytest.mark.parametrize("new_rows", [0, 1, 5])
def test_make_diff_of_bfloat16_restores_every_byte_of_tuned(tmp_path, new_rows):
    base, tuned, diff, result = make_pair(tmp_path, new_rows=new_rows)
    execute(make_plan(base, diff, Options(dtype="bfloat16")), tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tuned)
    assert (result.not_restored, result.values) == (
        0,
        sum(p.numel() for p in models.load(tuned).parameters()),
    )
    assert json.loads((tmp_path / "out/config.json").read_text()) == json.loads(
        (tuned / "config.json").read_text()
    )


def test_make_diff_equals_the_peers_subtraction_with_tied_embeddings(tmp_path):
    base, tuned, diff, _ = make_pair(tmp_path, tied=True, new_rows=2)
    models.oracle_diff(base, models.load(tuned), tmp_path / "oracle")
    assert models.weights_of(diff) == models.weights_of(tmp_path / "oracle")


def test_make_diff_counts_the_values_that_do_not_come_back(tmp_path):
    base, tuned, diff, result = make_pair(tmp_path, dtype="F32")
    execute(make_plan(base, diff), tmp_path / "out")
    made, wanted = models.load(tmp_path / "out").state_dict(), models.load(tuned).state_dict()
    differing = sum(int((made[name] != wanted[name]).sum()) for name in wanted)
    assert differing > 0
    assert result.not_restored == differing
    manifest = json.loads((diff / "weights.manifest.json").read_text())
    assert manifest["round_trip"]["not_restored"] == differing


def test_recover_with_another_resize_policy_than_the_diffs_is_refused(tmp_path):
    base, tuned, diff, _ = make_pair(tmp_path, resize_policy="zero")
    with pytest.raises(Refusal, match="made with --resize-policy zero, not mean"):
        make_plan(base, diff, Options(resize_policy="mean"))
    execute(make_plan(base, diff, Options(dtype="bfloat16")), tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tuned)


def test_recover_with_another_base_is_refused_by_name_before_writing(tmp_path):
    _, _, diff, _ = make_pair(tmp_path)
    other = models.make_model()
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight[3, 3] += 1
    wrong = models.save(other, tmp_path / "wrong", "BF16")
    with pytest.raises(Refusal, match=r"not the base.*model\.layers\.1\.mlp\.up_proj\.weight"):
        execute(make_plan(wrong, diff), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_recover_with_the_same_base_in_another_dtype_and_format_is_accepted(tmp_path):
    base, tuned, diff, _ = make_pair(tmp_path)
    same = models.save(models.load(base), tmp_path / "same", "F32", "bin")
    execute(make_plan(same, diff, Options(dtype="bfloat16")), tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tuned)


def test_recover_of_a_diff_made_for_fastchat_as_weight_diff_is_refused(tmp_path):
    base, _, diff, _ = make_pair(tmp_path, new_rows=0, dtype="F16", compat="fastchat")
    with pytest.raises(Refusal, match="made for --compat fastchat"):
        make_plan(base, diff)


def test_fastchat_diff_is_added_in_float16_as_fastchat_does(tmp_path):
    base, _, diff, result = make_pair(tmp_path, new_rows=0, dtype="BF16", compat="fastchat")
    execute(make_plan(base, diff, Options(compat="fastchat")), tmp_path / "out")
    half = [models.load(folder).half() for folder in (base, diff)]
    made = models.load(tmp_path / "out").half().state_dict()
    state = half[0].state_dict()
    assert result.to_json()["shards"][0]["file"] == "model.safetensors"
    for name, values in half[1].state_dict().items():
        assert torch.equal(made[name], values + state[name])
