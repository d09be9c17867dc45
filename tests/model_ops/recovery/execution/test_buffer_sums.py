"""Published sums that count rotary frequencies or masks which a later-converted base or diff lacks."""

import json
import re
import shutil

import pytest

from model_ops.recovery.errors import Failure
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from tests.model_ops.recovery import models, plain

torch = plain.torch
from safetensors.torch import load_file, save_file  # noqa: E402 - plain skips this module where torch is not

LAYERS, HEADS, HIDDEN = 2, 4, 64
NAMES = [f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(LAYERS)]
CONFIG = {
    "model_type": "llama", "tie_word_embeddings": False, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "hidden_size": HIDDEN,
}  # fmt: skip


def frequencies(dtype=torch.float32, theta=10_000.0):
    size = HIDDEN // HEADS
    return (1.0 / theta ** (torch.arange(0, size, 2).float() / size)).to(dtype)


def add(folder, names, values):
    path = folder / "model.safetensors"
    save_file({**load_file(path), **{name: values.clone() for name in names}}, path)


@pytest.fixture
def pair(tmp_path):
    base = plain.write(tmp_path / "base", seed=1, vocab=50, hidden=HIDDEN, dtype=torch.float16)
    diff = plain.write(tmp_path / "diff", seed=2, vocab=50, hidden=HIDDEN)
    for folder in (base, diff):
        (folder / "config.json").write_text(json.dumps(CONFIG))
    return base, diff


def publish(pair, tmp_path, more):
    """Write model_sum.txt with the sum of the result plus `more`; return the sum without it."""
    execute(make_plan(*pair), tmp_path / "plain")
    total = sum(
        values.double().sum().item() for values in load_file(tmp_path / "plain/model.safetensors").values()
    )
    shutil.rmtree(tmp_path / "plain")
    (pair[1] / "model_sum.txt").write_text(f"{total + more}\n")
    return total


@pytest.mark.parametrize("kept_as", [torch.float32, torch.float16, torch.bfloat16])
def test_frequencies_that_the_diff_has_and_the_base_lacks_are_named(pair, tmp_path, kept_as):
    add(pair[1], NAMES, torch.zeros(HIDDEN // HEADS // 2))
    more = LAYERS * frequencies(kept_as).double().sum().item()
    total = publish(pair, tmp_path, more)
    done = models.run_cli(
        "recover", "--path_raw", pair[0], "--path_diff", pair[1], "--path_tuned", tmp_path / "out", "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["parameter_sum"] == pytest.approx(total, abs=1e-3)
    note, number = re.match(
        r"(.*base lacks), ([0-9.]+) in all; with them the sum fits\.", said["sum_note"]
    ).groups()
    assert note == (
        "model_sum.txt also counts 2 rotary buffers (rotary_emb.inv_freq) that the diff has and the base lacks"
    )
    assert float(number) == pytest.approx(more, abs=2e-3)
    assert f"note: {said['sum_note']}\n" in done.stderr
    manifest = json.loads((tmp_path / "out/weights.manifest.json").read_text())
    assert manifest["parameter_sum_note"] == said["sum_note"]
    assert execute(make_plan(*pair), tmp_path / "out").notes == [said["sum_note"]]


def test_frequencies_of_another_theta_come_from_the_configuration(pair, tmp_path):
    add(pair[1], NAMES, torch.zeros(HIDDEN // HEADS // 2))
    publish(pair, tmp_path, LAYERS * frequencies(theta=500_000.0).double().sum().item())
    with pytest.raises(Failure, match="the base, the diff or that number is wrong"):
        execute(make_plan(*pair), tmp_path / "out")
    for place in ({"rope_theta": 500_000.0}, {"rope_parameters": {"rope_theta": 500_000}}):
        (pair[1] / "config.json").write_text(json.dumps(CONFIG | place))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert execute(make_plan(*pair), tmp_path / "out").sum_note


def test_frequencies_that_neither_has_are_counted_by_the_configuration(pair, tmp_path):
    publish(pair, tmp_path, LAYERS * frequencies().double().sum().item())
    note = execute(make_plan(*pair), tmp_path / "out").sum_note
    assert "2 rotary buffers (rotary_emb.inv_freq) that neither the base nor the diff has" in note


@pytest.mark.parametrize("keep", [False, True])
def test_frequencies_that_only_the_base_has_are_counted_as_stored(pair, tmp_path, keep):
    add(pair[0], NAMES, torch.arange(1.0, 9.0))
    publish(pair, tmp_path, 36.0 * LAYERS)
    note = execute(make_plan(*pair, Options(keep_rotary=keep)), tmp_path / "out").sum_note
    assert f"2 buffers (such as {NAMES[0]}) that the base has and the diff lacks, 72 in all" in note


def test_sum_that_fits_as_it_is_has_no_note(pair, tmp_path):
    add(pair[1], NAMES, torch.zeros(HIDDEN // HEADS // 2))
    publish(pair, tmp_path, 0)
    assert execute(make_plan(*pair), tmp_path / "out").sum_note is None
    assert "parameter_sum_note" not in json.loads((tmp_path / "out/weights.manifest.json").read_text())


def test_wrong_base_still_fails_where_buffers_are_missing(pair, tmp_path):
    add(pair[1], NAMES, torch.zeros(HIDDEN // HEADS // 2))
    publish(pair, tmp_path, LAYERS * frequencies().double().sum().item())
    wrong = plain.write(tmp_path / "wrong", seed=3, vocab=50, hidden=HIDDEN, dtype=torch.float16)
    with pytest.raises(
        Failure, match=r"the base, the diff or that number is wrong; .* take model_sum\.txt away"
    ):
        execute(make_plan(wrong, pair[1]), tmp_path / "out")
    with pytest.raises(Failure, match="leave --expected-sum out to go on without this check"):
        execute(make_plan(*pair, Options(expected_sum=1.0)), tmp_path / "out")


@pytest.mark.parametrize(
    "odd",
    [{"rope_theta": -1}, {"rope_theta": True}, {"num_hidden_layers": 1e12}, {"head_dim": "x"}, {"rope_parameters": []},
     {"hidden_size": 1e14}, {"text_config": 3}, {"rope_theta": 10**400}],
)  # fmt: skip
def test_odd_configuration_gives_a_failure_and_no_other_error(pair, tmp_path, odd):
    (pair[1] / "config.json").write_text(json.dumps(CONFIG | odd))
    (pair[1] / "model_sum.txt").write_text("12345.678")
    with pytest.raises(Failure, match="add up to"):
        execute(make_plan(*pair), tmp_path / "out")
