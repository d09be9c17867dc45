"""The edge cases of released diffs under weight_diff: what is reproduced, and what is refused instead.

Not here: weight_diff's random row, which is overwritten at once, so there is nothing to reproduce; and that
the mean is never computed on the device, which test_device_pool shows.
"""

import json
import os

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from tests.model_ops.recovery import plain

torch = plain.torch
EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
QUERY, ROTARY = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"
SHAPES = {EMBED: (60, 64), HEAD: (60, 64), QUERY: (64, 64), NORM: (64,)}
GROWN = {**SHAPES, EMBED: (61, 64), HEAD: (61, 64)}
TIED = {name: shape for name, shape in SHAPES.items() if name != HEAD}
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def state(seed, shapes=SHAPES, dtype="F32", **changes):
    """Return random tensors; `changes` replace some (`__` stands for a dot), and None removes one."""
    made = plain.random_state(seed, shapes, (DTYPES[dtype],))
    made |= {name.replace("__", "."): values for name, values in changes.items()}
    return {name: values for name, values in made.items() if values is not None}


def pair(folder, base=None, diff=None, *, tied=False):
    """Write two folders with these tensors, by default as float16 and float32."""
    folders = []
    for name, tensors in (("base", base or state(1, dtype="F16")), ("diff", diff or state(2))):
        folders.append(plain.write_state(folder / name, tensors))
        (folders[-1] / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    return folders


def refusal(base, diff, **options):
    with pytest.raises(Refusal) as caught:
        make_plan(base, diff, Options(**options))
    return str(caught.value)


def same_bits(made, wanted):
    assert made.keys() == wanted.keys()
    for name, values in wanted.items():
        assert (made[name].dtype, made[name].shape) == (values.dtype, values.shape)
        assert torch.equal(made[name], values), name


@pytest.mark.parametrize("base_dtype", DTYPES)
@pytest.mark.parametrize("diff_dtype", DTYPES)
def test_sum_is_one_float32_addition_and_is_written_so(tmp_path, base_dtype, diff_dtype):
    """Rows 1 and 2: the result is float32(base) + float32(diff), rounded once and written in float32."""
    base, diff = state(1, dtype=base_dtype), state(2, dtype=diff_dtype)
    folders = pair(tmp_path, base, diff)
    sums = {name: base[name].float() + diff[name].float() for name in SHAPES}
    plain.recover(*folders, tmp_path / "out")
    plain.recover(*folders, tmp_path / "cut", max_shard_size="20KB", jobs=3)
    same_bits(plain.state_of(tmp_path / "out"), sums)
    same_bits(plain.state_of(tmp_path / "cut"), sums)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_another_dtype_is_one_cast_and_the_config_says_it(tmp_path, dtype):
    """Writing a smaller dtype is a separate choice: one rounding of the float32 sum to nearest even."""
    base, diff = state(1, dtype="F16"), state(2)
    folders = pair(tmp_path, base, diff)
    (folders[1] / "config.json").write_text('{"model_type": "llama", "dtype": "float16"}')
    plain.recover(*folders, tmp_path / "out", dtype=dtype)
    same_bits(
        plain.state_of(tmp_path / "out"),
        {name: (base[name].float() + diff[name]).to(getattr(torch, dtype)) for name in SHAPES},
    )
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == dtype


def test_new_rows_of_the_base_are_the_mean_of_its_rows(tmp_path):
    """Every new row is the float32 mean of the old rows, to the bit."""
    base = state(1, dtype="BF16")
    diff = state(2, {**SHAPES, EMBED: (64, 64), HEAD: (64, 64)})
    plain.recover(*pair(tmp_path, base, diff), tmp_path / "out")
    made = plain.state_of(tmp_path / "out")
    for name in (EMBED, HEAD):
        assert torch.equal(made[name][:60], base[name].float() + diff[name][:60])
        assert torch.equal(made[name][60:], base[name].float().mean(0) + diff[name][60:])


def test_base_with_a_padding_token_is_not_grown(tmp_path):
    """The plan refuses a base with a padding token, naming both shapes.

    In weight_diff it is a shape error.
    """
    base, diff = pair(tmp_path, diff=state(2, GROWN))
    (base / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}')
    assert refusal(base, diff) == (
        f"{HEAD} has shape [61, 64] in the diff but [60, 64] in the base, and the base's tokenizer already has a "
        "padding token, so weight_diff would not grow it; name --resize-policy to grow it nevertheless."
    )


def test_shapes_decide_whether_the_base_grows(tmp_path):
    """The base grows only if the vocabularies differ, even without a padding token; growth is reported."""
    same = make_plan(*pair(tmp_path / "same"))
    grown = make_plan(*pair(tmp_path / "grown", diff=state(2, GROWN)))
    assert same.resized == ()
    assert sorted(grown.resized) == [f"{HEAD}: 60 -> 61 rows (mean)", f"{EMBED}: 60 -> 61 rows (mean)"]
    assert f"grown: {HEAD}: 60 -> 61 rows (mean)" in grown.summary()
    assert grown.to_json()["options"]["resize_policy"] == "mean"


@pytest.mark.parametrize("policy", ["mean", "zero", "skip", "error"])
def test_every_policy_for_new_rows(tmp_path, policy):
    """New rows are the mean, zero, the diff's tensor as it is, or refused."""
    base, diff = state(1), state(2, GROWN)
    folders = pair(tmp_path, base, diff)
    if policy == "error":
        assert "has shape [61, 64] in the diff but [60, 64] in the base" in refusal(
            *folders, resize_policy=policy
        )
        return
    plain.recover(*folders, tmp_path / "out", resize_policy=policy)
    new = {"mean": base[HEAD].mean(0, keepdim=True), "zero": torch.zeros(1, 64)}.get(policy)
    expected = diff[HEAD] if new is None else torch.cat([base[HEAD], new]) + diff[HEAD]
    assert torch.equal(plain.state_of(tmp_path / "out")[HEAD], expected)


def test_tied_embeddings_are_added_twice(tmp_path):
    """Both names reach one tensor, so the result is (diff + base) + base, each sum rounded."""
    base, diff = state(1, TIED, "F16"), state(2, TIED)
    folders = pair(tmp_path, base, diff, tied=True)
    plain.recover(*folders, tmp_path / "out")
    made, plan = plain.state_of(tmp_path / "out"), make_plan(*folders)
    assert torch.equal(made[EMBED], (diff[EMBED] + base[EMBED].float()) + base[EMBED].float())
    assert torch.equal(made[NORM], diff[NORM] + base[NORM].float())
    assert f"note: {EMBED} and {HEAD} are tied and written once" in plan.summary()
    assert [t["rule"] for s in plan.to_json()["shards"] for t in s["tensors"] if t["name"] == EMBED] == [
        "add_twice"
    ]


def test_tensor_missing_in_the_diff_is_refused(tmp_path):
    """A tensor missing in the diff is refused; weight_diff adds the base to a fresh random tensor."""
    folders = pair(tmp_path, diff=state(2, model__norm__weight=None))
    assert refusal(*folders) == f"The base has {NORM} with shape [64], which is missing in the diff."


@pytest.mark.parametrize("side", ["base", "diff"])
def test_values_that_are_not_finite_are_refused_or_counted(tmp_path, side):
    """Values that are not finite are refused or counted; weight_diff lets them pass."""
    bad = torch.ones(64)
    bad[3], bad[5], bad[7] = float("nan"), float("inf"), float("-inf")
    folders = pair(tmp_path, **{side: state(3, model__norm__weight=bad)})
    with pytest.raises(Failure, match=r"model\.norm\.weight would hold 3 value"):
        plain.recover(*folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert plain.recover(*folders, tmp_path / "out", non_finite="report").non_finite == 3


def test_name_in_the_diff_alone_is_refused(tmp_path):
    """A name that only the diff has is refused; weight_diff raises a KeyError."""
    folders = pair(tmp_path, base=state(1, model__norm__weight=None))
    assert refusal(*folders) == (
        f"The diff has {NORM} with shape [64], but the base has no tensor {NORM}. If it was added to the model,"
        " --diff-only copy takes it from the diff."
    )


def test_name_in_the_base_alone_is_refused(tmp_path):
    """A name that only the base has is refused; weight_diff ignores it."""
    folders = pair(tmp_path, base=state(1, more=torch.zeros(2)))
    assert refusal(*folders) == "The base has more with shape [2], which is missing in the diff."


def test_rotary_buffers_and_the_tied_twin_of_the_base_alone_are_reported(tmp_path):
    """These are the two kinds of names that only the base may have; plan and manifest list them."""
    twin = torch.randn(60, 64)
    base = state(1, TIED, **{ROTARY.replace(".", "__"): torch.ones(8), HEAD.replace(".", "__"): twin})
    folders = pair(tmp_path, base, state(2, TIED), tied=True)
    base_config = json.dumps({"tie_word_embeddings": False})
    (folders[0] / "config.json").write_text(base_config)
    plan = make_plan(*folders)
    assert plan.dropped == (HEAD, ROTARY)
    assert plan.to_json()["dropped"] == [HEAD, ROTARY]
    assert f"dropped: {HEAD}\ndropped: {ROTARY}" in plan.summary()
    plain.recover(*folders, tmp_path / "out")
    assert plain.state_of(tmp_path / "out").keys() == TIED.keys()
    assert json.loads((tmp_path / "out/weights.manifest.json").read_text())["dropped"] == [HEAD, ROTARY]


@pytest.mark.parametrize("shape", [(1,), (1, 64), (64, 1), (65,), ()])
def test_shapes_that_would_broadcast_are_refused(tmp_path, shape):
    """Shapes that would broadcast are refused; an in-place addition would repeat the smaller tensor."""
    folders = pair(tmp_path, base=state(1, model__norm__weight=torch.ones(shape)))
    assert refusal(*folders) == (
        f"{NORM} has shape [64] in the diff but {list(shape)} in the base; they do not belong together."
    )


def test_rotary_buffers_are_dropped_or_kept(tmp_path):
    """Rotary buffers are dropped, as today's library does, or kept as 0 + base, as that of 2023 did."""
    name = ROTARY.replace(".", "__")
    table = torch.arange(1.0, 9.0)
    folders = pair(tmp_path, state(1, **{name: table}), state(2, **{name: torch.zeros(8)}))
    plain.recover(*folders, tmp_path / "out")
    plain.recover(*folders, tmp_path / "kept", keep_rotary=True)
    assert make_plan(*folders).dropped == (ROTARY,)
    assert plain.state_of(tmp_path / "out").keys() == SHAPES.keys()
    assert torch.equal(plain.state_of(tmp_path / "kept")[ROTARY], table)


def test_bin_and_safetensors_give_the_same_files(tmp_path):
    """Every mix of the two formats gives the same files."""
    outputs = []
    for kinds in (("safetensors", "safetensors"), ("bin", "bin"), ("bin", "safetensors")):
        folder = tmp_path / "-".join(kinds)
        folders = [
            plain.write_state(folder / name, state(seed, dtype="F16"), kind=kind)
            for seed, (name, kind) in enumerate(zip(("base", "diff"), kinds, strict=True))
        ]
        plain.recover(*folders, folder / "out")
        outputs.append((folder / "out/model.safetensors").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("options", [{}, {"compat": "fastchat"}, {"dtype": "bfloat16"}])
def test_shards_are_of_5_gb_unless_told_and_never_over_50(tmp_path, options):
    """Shards have 5 GB by default.

    The limit of 50GB is today's default layout, and the most that clients download.
    """
    folders = pair(tmp_path)
    default, largest = make_plan(*folders, Options(**options)), Options(**options, max_shard_size="50GB")
    assert default.options["max_shard_size"] == 5 * 10**9
    assert make_plan(*folders, largest).options["max_shard_size"] == 50 * 10**9
    assert "over 50GB" in refusal(*folders, **options, max_shard_size="50.1GB")


def test_names_are_sorted_and_several_files_have_an_index(tmp_path):
    """Rows 14 and 15: sorted names in a file, files filled in natural order; a single file has no index."""
    folders = pair(tmp_path)
    plain.recover(*folders, tmp_path / "one")
    plain.recover(*folders, tmp_path / "two", max_shard_size="32KB")
    raw = (tmp_path / "one/model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    assert (list(header), size % 8) == (["__metadata__", *sorted(SHAPES)], 0)
    assert raw[8:].startswith(
        b'{"__metadata__":{"format":"pt"},"lm_head.weight":{"dtype":"F32","shape":[60,64],'
    )
    assert not (tmp_path / "one/model.safetensors.index.json").exists()
    index = json.loads((tmp_path / "two/model.safetensors.index.json").read_text())
    parameters = sum(values.numel() for values in state(1).values())
    assert index["metadata"] == {"total_parameters": parameters, "total_size": parameters * 4}
    assert list(index["weight_map"]) == sorted(SHAPES)
    assert index["weight_map"][HEAD] == "model-00001-of-00002.safetensors"


def test_others_may_read_the_files(tmp_path):
    """The files are readable by others; the library writes safetensors that only their owner can read."""
    old = os.umask(0o077)
    try:
        plain.recover(*pair(tmp_path), tmp_path / "out")
    finally:
        os.umask(old)
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").iterdir()}
    assert (oct((tmp_path / "out").stat().st_mode & 0o777), modes) == ("0o755", {"0o644"})


def test_small_files_are_the_diffs_own(tmp_path):
    """Small files are copied byte for byte from the diff, except the config's dtype; none from the base."""
    base, diff = pair(tmp_path)
    config = '{\n  "torch_dtype": "float16",   "vocab_size": 60, "tie_word_embeddings": false\n}'
    (diff / "config.json").write_text(config)
    files = {
        "generation_config.json": b'{"a":  1}',
        "tokenizer.model": bytes(range(256)),
        "tokenizer.json": b"{}",
    }
    for name, data in files.items():
        (diff / name).write_bytes(data)
        (base / name).write_bytes(b"the base's")
    (base / "vocab.txt").write_text("the base's")
    plain.recover(base, diff, tmp_path / "out")
    made = plain.files_of(tmp_path / "out")
    assert {name: made[name] for name in files} == files
    assert made["config.json"].decode() == config.replace("float16", "float32")
    assert made.keys() - files.keys() == {"config.json", "model.safetensors", "weights.manifest.json"}


def test_no_tokenizer_is_needed(tmp_path):
    """Neither sentencepiece nor protobuf is needed, and the tokenizer's files are not opened."""
    base, diff = pair(tmp_path, diff=state(2, GROWN))
    (base / "tokenizer.model").write_bytes(b"\xff not a tokenizer")
    plain.recover(base, diff, tmp_path / "out")
    assert len(plain.state_of(tmp_path / "out")[EMBED]) == 61


def test_nothing_is_seen_before_it_is_whole(tmp_path):
    """Results are visible only when complete.

    In weight_diff a crash leaves half a model in the target folder.
    """
    base, diff = pair(tmp_path)
    plan = make_plan(base, diff)
    raw = (diff / "model.safetensors").read_bytes()
    (diff / "model.safetensors").write_bytes(raw[:-64])
    with pytest.raises(Failure):
        plain.execute(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
