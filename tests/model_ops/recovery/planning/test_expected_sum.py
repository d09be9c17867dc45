"""The sum a publisher states: of the recovered state dict, tied names twice, compared before publishing."""

import json

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import plain

torch = plain.torch
from safetensors.torch import load_file, save_file  # noqa: E402 - plain skips this module where torch is not

ROTARY = "model.layers.0.self_attn.rotary_emb.inv_freq"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return plain.write_pair(tmp_path_factory.mktemp("pair"), vocab=100, hidden=64)


def sum_of(folder, **twice):
    """Return the float64 sum of all values in the folder's weights, with the named tensors multiplied."""
    state = {
        name: values for path in folder.glob("*.safetensors") for name, values in load_file(path).items()
    }
    return sum(values.double().sum().item() * twice.get(name, 1) for name, values in state.items())


@pytest.fixture(scope="module")
def true_sum(pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("sum") / "out"
    assert execute(make_plan(*pair), out).parameter_sum is None
    assert "parameter_sum" not in json.loads((out / "weights.manifest.json").read_text())
    return sum_of(out)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", ["5GB", "50KB"])
def test_expected_sum_that_fits_is_reported(pair, tmp_path, true_sum, dtype, size):
    options = Options(dtype=dtype, max_shard_size=size, expected_sum=round(true_sum, 3))
    result = execute(make_plan(*pair, options), tmp_path / "out")
    assert result.parameter_sum == pytest.approx(true_sum, abs=1e-3)
    manifest = json.loads((tmp_path / "out/weights.manifest.json").read_text())
    assert manifest["parameter_sum"] == result.to_json()["parameter_sum"] == result.parameter_sum
    assert (manifest["options"]["expected_sum"], manifest["options"]["sum_tolerance"]) == (
        round(true_sum, 3),
        0.01,
    )
    again = execute(make_plan(*pair, options), tmp_path / "out")
    assert (again.already_there, again.parameter_sum) == (True, result.parameter_sum)


def test_expected_sum_that_does_not_fit_leaves_nothing_visible(pair, tmp_path, true_sum):
    expected = round(true_sum, 1) + 0.5
    with pytest.raises(Failure) as caught:
        execute(make_plan(*pair, Options(expected_sum=expected)), tmp_path / "out")
    assert f"but --expected-sum says {expected!r} (within 0.01)" in str(caught.value)
    assert not (tmp_path / "out").exists()
    execute(make_plan(*pair, Options(expected_sum=expected, sum_tolerance=1.0)), tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "tolerance"), [({}, 0.01), ({"sum_tolerance": 0.0}, 0.0), ({"sum_tolerance": 5.0}, 5.0)]
)
def test_tolerance_is_a_hundredth_unless_told(pair, given, tolerance):
    plan = make_plan(*pair, Options(expected_sum=-9999.0, **given))
    assert plan.expected.tolerance == plan.options["sum_tolerance"] == tolerance


def test_tolerance_of_a_large_sum_covers_how_it_was_rounded(pair):
    """The float32 sum of a 7B model has steps of 0.004, and some hundred additions are each rounded to one."""
    assert make_plan(*pair, Options(expected_sum=50637.1836)).expected.tolerance == pytest.approx(
        0.0506, abs=1e-4
    )


def with_sum_file(pair, folder, text):
    diff = folder / "diff"
    diff.mkdir()
    for path in pair[1].iterdir():
        (diff / path.name).write_bytes(path.read_bytes())
    (diff / "model_sum.txt").write_bytes(text)
    return pair[0], diff


def test_sum_file_beside_the_diff_is_compared_relatively(pair, tmp_path, true_sum):
    fitting = with_sum_file(pair, tmp_path, f"{true_sum * (1 + 5e-6):.9f}\n".encode())
    plan = make_plan(*fitting)
    assert plan.to_json()["expected_sum"]["source"] == "model_sum.txt"
    assert "identity of the base: the parameters must add up to" in plan.summary()
    execute(plan, tmp_path / "out")
    (fitting[1] / "model_sum.txt").write_text(f"{true_sum * (1 + 2e-5):.9f}")
    with pytest.raises(Failure, match=r"but model_sum\.txt says"):
        execute(make_plan(*fitting), tmp_path / "no")
    execute(make_plan(*fitting, Options(expected_sum=true_sum)), tmp_path / "told")


@pytest.mark.parametrize("text", [b"", b"about 5", b"nan", b"1e999", b"1\n2", b"0" * 101, b"\xff"])
def test_damaged_sum_file_is_refused_by_name(pair, tmp_path, text):
    with pytest.raises(
        Refusal, match=r"model_sum\.txt in the diff's folder does not contain a single number"
    ):
        make_plan(*with_sum_file(pair, tmp_path, text))


def test_tied_embedding_counts_twice(tmp_path):
    base, diff = (
        plain.write(tmp_path / name, seed=seed, vocab=50, hidden=32) for seed, name in enumerate("bd")
    )
    for folder in (base, diff):
        state = load_file(folder / "model.safetensors")
        del state["lm_head.weight"]
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text('{"tie_word_embeddings": true}')
    execute(make_plan(base, diff), tmp_path / "out")
    expected = sum_of(tmp_path / "out", **{"model.embed_tokens.weight": 2})
    assert execute(
        make_plan(base, diff, Options(expected_sum=expected)), tmp_path / "checked"
    ).parameter_sum == pytest.approx(expected, abs=1e-3)


def test_rotary_buffers_of_the_diff_count_whether_or_not_they_are_written(tmp_path):
    base, diff = (
        plain.write(tmp_path / name, seed=seed, vocab=50, hidden=32) for seed, name in enumerate("bd")
    )
    for folder, values in ((base, torch.arange(1.0, 9.0)), (diff, torch.zeros(8))):
        save_file({**load_file(folder / "model.safetensors"), ROTARY: values}, folder / "model.safetensors")
    execute(make_plan(base, diff), tmp_path / "out")
    expected = sum_of(tmp_path / "out") + 36
    for keep in (False, True):
        options = Options(expected_sum=expected, keep_rotary=keep)
        result = execute(make_plan(base, diff, options), tmp_path / f"kept-{keep}")
        assert result.parameter_sum == pytest.approx(expected, abs=1e-3)


def test_finished_shards_of_an_earlier_run_count_too(pair, tmp_path, true_sum):
    options = Options(max_shard_size="50KB", expected_sum=true_sum + 1)
    with pytest.raises(Failure) as first:
        execute(make_plan(*pair, options), tmp_path / "out")
    with pytest.raises(Failure) as second:
        execute(make_plan(*pair, options), tmp_path / "out")
    assert str(first.value) == str(second.value)


def test_diff_and_bytes_have_no_expected_sum(pair):
    with pytest.raises(Refusal, match="A diff has no expected sum"):
        make_diff_plan(*pair, Options(expected_sum=1.0))
    for options in (
        {"method": "xor", "expected_sum": 1.0},
        {"expected_sum": float("nan")},
        {"sum_tolerance": 0.1},
        {"expected_sum": 1.0, "sum_tolerance": -1.0},
    ):
        with pytest.raises(Refusal):
            Options(**options)
