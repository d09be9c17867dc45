"""What the rules do besides the edge cases of released diffs, and how they agree with weight_diff."""

import json

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
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
    made = load_file(tmp_path / "out/model.safetensors")[NORM]
    finite = made[made.isfinite()]
    assert manifest["tensors"][NORM] == {
        "rule": "add",
        "non_finite": 3,
        "min": finite.min().item(),
        "max": finite.max().item(),
    }


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
