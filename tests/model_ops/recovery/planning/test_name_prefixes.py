"""Bases whose tensor names have a different prefix from the other side's."""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.planner import make_plan
from tests.model_ops.recovery import plain

torch = plain.torch

LLAMA = ("model.embed_tokens.weight", "model.layers.0.mlp.weight", "model.norm.weight", "lm_head.weight")


def write(folder, seed, names, **config):
    plain.write_state(folder, plain.random_state(seed, dict.fromkeys(names, (24, 8))))
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": False, **config}))
    return folder


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: f"transformer.{name}",
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"language_model.{name}",
        lambda name: f"backbone_model.{name}",
        lambda name: name.removeprefix("model."),
        lambda name: name.replace("model.", "model.language_model.") if name.startswith("model.") else name,
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_names_that_differ_in_their_beginning_are_matched(tmp_path, renamed, swapped):
    mine, theirs = [*LLAMA], [renamed(name) for name in LLAMA]
    if swapped:
        mine, theirs = theirs, mine
    base, diff = write(tmp_path / "base", 1, theirs), write(tmp_path / "diff", 2, mine)
    plan = make_plan(base, diff)
    assert any(note.startswith("The base's names are matched with ") for note in plan.notes)
    plain.recover(base, diff, tmp_path / "out")
    made, raw, added = (plain.state_of(folder) for folder in (tmp_path / "out", base, diff))
    assert set(made) == set(mine)
    for name, other in zip(mine, theirs, strict=True):
        assert torch.equal(made[name], added[name] + raw[other])


def test_mixed_names_are_refused_as_before(tmp_path):
    base = write(
        tmp_path / "base", 1, [f"transformer.{LLAMA[0]}", f"module.{LLAMA[1]}", f"a.{LLAMA[2]}", "b"]
    )
    diff = write(tmp_path / "diff", 2, LLAMA)
    with pytest.raises(Refusal, match="but the base has no tensor"):
        make_plan(base, diff)
