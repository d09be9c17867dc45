"""Each row of the table of edge cases: reproduced, or refused with the tensor's name and shapes."""

import json

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.options import Options
from model_ops.recovery.plan import make_plan
from model_ops.recovery.run import execute
from tests.model_ops.recovery import models

torch = models.torch
from safetensors.torch import load_file, save_file  # noqa: E402 - models skips this module where torch is not

NORM = "model.norm.weight"
ROTARY = "model.layers.0.self_attn.rotary_emb.inv_freq"


@pytest.fixture
def pair(tmp_path):
    model = models.make_model()
    base = models.save(model, tmp_path / "base", "F16")
    return base, models.oracle_diff(base, models.tune(model), tmp_path / "diff")


@pytest.fixture
def grown(tmp_path):
    model = models.make_model()
    base = models.save(model, tmp_path / "base", "F16")
    return base, models.oracle_diff(base, models.tune(model, new_rows=1), tmp_path / "diff")


def change(folder, **tensors):
    """Set (or, with None, drop) tensors of a one-file checkpoint; `__` in a keyword stands for a dot."""
    state = load_file(folder / "model.safetensors")
    for keyword, value in tensors.items():
        name = keyword.replace("__", ".")
        state.pop(name, None)
        if value is not None:
            state[name] = value
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def refused(base, diff, out, **options):
    with pytest.raises(Refusal) as caught:
        execute(make_plan(base, diff, Options(**options)), out)
    assert not out.exists()
    assert not out.with_name(out.name + ".partial").exists()
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_of_the_output_is_one_cast_of_the_float32_sum(pair, tmp_path, dtype):
    execute(make_plan(*pair), tmp_path / "full")
    execute(make_plan(*pair, Options(dtype=dtype)), tmp_path / "out")
    full, made = (load_file(tmp_path / name / "model.safetensors") for name in ("full", "out"))
    assert {name: values.to(getattr(torch, dtype)).tolist() for name, values in full.items()} == {
        name: values.tolist() for name, values in made.items()
    }


def test_tensor_missing_in_the_diff_is_refused(pair, tmp_path):
    change(pair[1], model__norm__weight=None)
    assert refused(*pair, tmp_path / "out") == (
        "The base has model.norm.weight with shape [64], which is missing in the diff."
    )


def test_tensor_missing_in_the_base_is_refused(pair, tmp_path):
    change(pair[0], model__norm__weight=None)
    assert refused(*pair, tmp_path / "out") == (
        "The diff has model.norm.weight with shape [64], but the base has no tensor model.norm.weight."
    )


@pytest.mark.parametrize("shape", [(1,), (1, 64), (65,), (32,)])
def test_tensor_of_another_shape_is_refused_with_both_shapes(pair, tmp_path, shape):
    change(pair[0], model__norm__weight=torch.zeros(shape))
    assert refused(*pair, tmp_path / "out") == (
        f"model.norm.weight has shape [64] in the diff but {list(shape)} in the base; they do not belong together."
    )


def test_base_with_more_rows_than_the_diff_is_refused_with_both_shapes(grown, tmp_path):
    base, diff = grown
    change(base, lm_head__weight=torch.zeros(99, 64))
    assert "[98, 64] in the diff but [99, 64] in the base" in refused(base, diff, tmp_path / "out")


def test_base_with_padding_token_does_not_grow_unless_told(grown, tmp_path):
    base, diff = grown
    (base / "tokenizer_config.json").write_text('{"pad_token": "[PAD]"}')
    sentence = refused(base, diff, tmp_path / "out")
    assert "[98, 64] in the diff but [97, 64] in the base" in sentence
    assert "already has a padding token" in sentence
    execute(make_plan(base, diff, Options(resize_policy="mean")), tmp_path / "out")


def test_resize_policy_error_refuses_new_rows(grown, tmp_path):
    assert "[98, 64] in the diff but [97, 64] in the base" in refused(
        *grown, tmp_path / "out", resize_policy="error"
    )


def test_resize_policy_zero_leaves_new_rows_as_the_diff_has_them(grown, tmp_path):
    execute(make_plan(*grown, Options(resize_policy="zero")), tmp_path / "out")
    made, diff = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", grown[1]))
    base = load_file(grown[0] / "model.safetensors")["lm_head.weight"]
    assert torch.equal(made["lm_head.weight"][97:], diff["lm_head.weight"][97:])
    assert torch.equal(made["lm_head.weight"][:97], diff["lm_head.weight"][:97] + base)


def test_resize_policy_skip_takes_the_whole_tensor_from_the_diff(grown, tmp_path):
    execute(make_plan(*grown, Options(resize_policy="skip")), tmp_path / "out")
    made, diff = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", grown[1]))
    assert torch.equal(made["lm_head.weight"], diff["lm_head.weight"])
    assert not torch.equal(made[NORM], diff[NORM])


def test_rotary_buffers_are_dropped_by_default_and_kept_when_asked(pair, tmp_path):
    base, diff = pair
    table = {ROTARY.replace(".", "__"): torch.arange(1.0, 9.0)}
    change(base, **table)
    change(diff, **{name: torch.zeros(8) for name in table})
    plan = make_plan(base, diff)
    assert plan.dropped == (ROTARY,)
    execute(plan, tmp_path / "out")
    assert ROTARY not in load_file(tmp_path / "out/model.safetensors")
    execute(make_plan(base, diff, Options(keep_rotary=True)), tmp_path / "kept")
    assert load_file(tmp_path / "kept/model.safetensors")[ROTARY].tolist() == list(range(1, 9))


def test_rotary_buffers_of_the_base_alone_are_dropped(pair, tmp_path):
    change(pair[0], **{ROTARY.replace(".", "__"): torch.arange(8)})
    execute(make_plan(*pair), tmp_path / "out")
    assert ROTARY not in load_file(tmp_path / "out/model.safetensors")


def test_non_finite_values_end_the_run_without_result(pair, tmp_path):
    values = torch.ones(64)
    values[5], values[9], values[10] = float("nan"), float("inf"), float("-inf")
    change(pair[1], model__norm__weight=values)
    with pytest.raises(Failure, match=r"model\.norm\.weight would hold 3 value"):
        execute(make_plan(*pair), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = execute(make_plan(*pair), tmp_path / "out", non_finite="report")
    manifest = json.loads((tmp_path / "out/weights.manifest.json").read_text())
    assert result.non_finite == manifest["non_finite"] == 3
    assert manifest["tensors"][NORM] == {"rule": "add", "non_finite": 3}


def test_values_beyond_float16_count_as_non_finite(pair, tmp_path):
    change(pair[1], model__norm__weight=torch.full((64,), 1e5))
    with pytest.raises(Failure, match="64 value"):
        execute(make_plan(*pair, Options(dtype="float16")), tmp_path / "out")


def test_integers_are_refused(pair, tmp_path):
    change(pair[1], model__norm__weight=torch.zeros(64, dtype=torch.int64))
    assert "has dtype I64" in refused(*pair, tmp_path / "out")


def test_files_beside_the_weights_are_copied_but_for_the_dtype_of_the_config(pair, tmp_path):
    base, diff = pair
    config = '{\n\t"b": {"dtype": "x"},  "dtype" : "float16",\n "torch_dtype": null, "a": ["dtype"], "k": "\\u00e9"}'
    config = config.replace('"k"', '"tie_word_embeddings": false, "k"')
    (diff / "config.json").write_text(config)
    (diff / "tokenizer.model").write_bytes(bytes(range(256)))
    (diff / "README.md").write_text("a card")
    (diff / "training_args.bin").write_bytes(b"x")
    execute(make_plan(base, diff, Options(dtype="bfloat16")), tmp_path / "out")
    out = tmp_path / "out"
    expected = config.replace('"float16"', '"bfloat16"').replace("null", '"bfloat16"')
    assert (out / "config.json").read_text() == expected
    assert {path.name for path in out.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.model",
        "tokenizer_config.json", "weights.manifest.json",
    }  # fmt: skip
    for name in ("generation_config.json", "tokenizer.model", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (diff / name).read_bytes()


def test_modes_do_not_depend_on_the_umask(pair, tmp_path):
    import os

    old = os.umask(0o077)
    try:
        execute(make_plan(*pair), tmp_path / "out")
    finally:
        os.umask(old)
    assert oct((tmp_path / "out").stat().st_mode & 0o777) == "0o755"
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").iterdir()} == {"0o644"}


def test_tied_diff_on_an_untied_base_adds_both_of_its_embeddings(tmp_path):
    base = models.save(models.make_model(), tmp_path / "base", "F16")
    diff = models.save(models.make_model(seed=3, tied=True), tmp_path / "diff")
    execute(make_plan(base, diff), tmp_path / "out")
    models.oracle_recover(base, diff, tmp_path / "oracle")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


def test_untied_diff_on_a_tied_base_adds_the_one_embedding_to_both(tmp_path):
    base = models.save(models.make_model(tied=True), tmp_path / "base", "F16")
    diff = models.save(models.make_model(seed=3), tmp_path / "diff")
    execute(make_plan(base, diff), tmp_path / "out")
    models.oracle_recover(base, diff, tmp_path / "oracle")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "oracle")


def test_tied_embeddings_under_fastchat_are_refused(tmp_path):
    base = models.save(models.make_model(tied=True), tmp_path / "base", "F16")
    assert "FastChat's own tools do not restore" in refused(
        base,
        models.save(models.make_model(tied=True), tmp_path / "diff"),
        tmp_path / "out",
        compat="fastchat",
    )
