"""Vocabularies of different sizes, and tensors that only the diff has."""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.options import Options
from tests.model_ops.recovery import plain

torch = plain.torch

EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
PROJECTOR = "model.mm_projector.weight"


def write(folder, seed, *, embed=40, head=40, **more):
    shapes = {EMBED: (embed, 8), HEAD: (head, 8), NORM: (8,), **more}
    plain.write_state(folder, plain.random_state(seed, shapes))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    return folder


def refused(base, diff, **options):
    with pytest.raises(Refusal) as caught:
        plain.make_plan(base, diff, Options(**options))
    return str(caught.value)


@pytest.mark.parametrize(("embed", "head"), [(40, 41), (41, 40), (41, 42)])
@pytest.mark.parametrize("policy", [None, "mean", "zero", "skip"])
def test_vocabularies_that_grow_apart_are_refused(tmp_path, embed, head, policy):
    base, diff = write(tmp_path / "base", 1), write(tmp_path / "diff", 2, embed=embed, head=head)
    assert "no model loads two vocabularies" in refused(base, diff, resize_policy=policy)


def test_base_with_a_padded_vocabulary_names_the_policy(tmp_path):
    base, diff = write(tmp_path / "base", 1, embed=48, head=48), write(tmp_path / "diff", 2)
    assert refused(base, diff) == (
        "lm_head.weight has shape [40, 8] in the diff but [48, 8] in the base, 8 more rows, as in a base with a padded"
        " vocabulary. If the first 40 rows were used to make the diff, pass --resize-policy cut."
    )


@pytest.mark.parametrize("made_here", [True, False])
def test_first_rows_of_a_padded_base_are_taken_under_cut(tmp_path, made_here):
    base, tuned = write(tmp_path / "base", 1, embed=48, head=48), write(tmp_path / "tuned", 2)
    plain.make_diff(base, tuned, tmp_path / "diff", resize_policy="cut")
    options = {}
    if not made_here:
        (tmp_path / "diff/weights.manifest.json").unlink()
        options = {"resize_policy": "cut"}
    plain.recover(base, tmp_path / "diff", tmp_path / "out", **options)
    made, raw, added = (plain.state_of(folder) for folder in (tmp_path / "out", base, tmp_path / "diff"))
    for name in (EMBED, HEAD):
        assert torch.equal(made[name], added[name] + raw[name][:40])


def test_cut_with_nothing_to_cut_is_refused(tmp_path):
    base, diff = write(tmp_path / "base", 1), write(tmp_path / "diff", 2, embed=41, head=41)
    assert refused(base, diff, resize_policy="cut").endswith(
        "so there is nothing to cut; choose another --resize-policy: mean, zero or skip."
    )


def test_fastchats_added_rows_name_the_policy(tmp_path):
    base, diff = write(tmp_path / "base", 1), write(tmp_path / "diff", 2, embed=41, head=41)
    assert "--resize-policy zero" in refused(base, diff, compat="fastchat")


@pytest.mark.parametrize("made_here", [True, False])
def test_tensors_of_the_diff_alone_are_taken_as_they_are_when_asked(tmp_path, made_here):
    base, tuned = write(tmp_path / "base", 1), write(tmp_path / "tuned", 2, **{PROJECTOR: (8, 4)})
    assert refused(base, tuned) == (
        "The diff has model.mm_projector.weight with shape [8, 4], but the base has no tensor model.mm_projector.weight."
        " If it was added to the model, --diff-only copy takes it from the diff."
    )
    plain.make_diff(base, tuned, tmp_path / "diff", diff_only="copy")
    options = {}
    if not made_here:
        (tmp_path / "diff/weights.manifest.json").unlink()
        options = {"diff_only": "copy"}
    plain.recover(base, tmp_path / "diff", tmp_path / "out", **options)
    assert torch.equal(plain.state_of(tmp_path / "out")[PROJECTOR], plain.state_of(tuned)[PROJECTOR])


def test_projector_and_rows_of_a_wrapper_are_recovered_with_fastchats_arithmetic(tmp_path):
    base = write(tmp_path / "base", 1)
    diff = write(tmp_path / "diff", 2, embed=43, head=43, **{PROJECTOR: (8, 4)})
    plain.recover(base, diff, tmp_path / "out", compat="fastchat", resize_policy="zero", diff_only="copy")
    made, raw, added = (plain.state_of(folder) for folder in (tmp_path / "out", base, diff))
    grown = torch.cat([raw[EMBED].half(), torch.zeros(3, 8).half()])
    assert torch.equal(made[EMBED], added[EMBED].half() + grown)
    assert torch.equal(made[PROJECTOR], added[PROJECTOR].half())
