"""Tied names are found from a checkpoint and its configuration, and unclear checkpoints are refused."""

import json
from pathlib import Path

import pytest

from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.checkpoints.ties import declared_tie, find_ties, parse_tied
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.options import Options
from tests.model_ops.recovery import plain

torch = plain.torch

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NORM = "model.norm.weight"
MAMBA = "backbone.embeddings.weight"


def write(folder, state, **config):
    plain.write_state(folder, state)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def state(seed, *names):
    return plain.random_state(seed, {name: (8,) if "norm" in name else (40, 8) for name in names})


def pair(tmp_path, *names, **config):
    return write(tmp_path / "base", state(1, *names), **config), write(
        tmp_path / "diff", state(2, *names), **config
    )


def recovered(base, diff, out, **options):
    plain.recover(base, diff, out, **options)
    return plain.state_of(out)


def times_added(base, diff, made, name=EMBED):
    """Return how many times the base's tensor was added to get the result."""
    mine, theirs = plain.state_of(base)[name], plain.state_of(diff)[name]
    for times in (1, 2, 3, 4):
        theirs = theirs + mine
        if torch.equal(theirs, made[name]):
            return times
    return None


def refused(base, diff, **options):
    with pytest.raises(Refusal) as caught:
        plain.make_plan(base, diff, Options(**options))
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "names", "times"),
    [
        ({"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}, (EMBED, NORM), 2),
        ({"architectures": ["LlamaForCausalLM"]}, (EMBED, HEAD, NORM), 1),
        ({"model_type": "llama", "tie_word_embeddings": True}, (EMBED, NORM), 2),
        ({"model_type": "llama", "architectures": ["LLaMAForCausalLM"]}, (EMBED, HEAD, NORM), 1),
        ({"architectures": ["GemmaForCausalLM"]}, (EMBED, NORM), 2),
        (
            {"architectures": ["LlamaForSequenceClassification"], "tie_word_embeddings": True},
            (EMBED, NORM),
            1,
        ),
        ({"architectures": ["GemmaModel"]}, (EMBED, NORM), 1),
        ({"model_type": "own_kind", "tie_word_embeddings": True}, (EMBED, NORM), 2),
        ({"model_type": "own_kind", "tie_word_embeddings": False}, (EMBED, NORM), 1),
        ({"model_type": "own_kind", "text_config": {"tie_word_embeddings": True}}, (EMBED, NORM), 2),
        ({"model_type": "own_kind"}, (EMBED, HEAD, NORM), 1),
    ],
)
def test_base_is_added_once_for_each_name(tmp_path, config, names, times):
    base, diff = pair(tmp_path, *names, **config)
    made = recovered(base, diff, tmp_path / "out")
    assert set(made) == set(names)
    assert times_added(base, diff, made) == times
    assert times_added(base, diff, made, NORM) == 1


def test_embedding_is_added_once_for_each_of_four_names(tmp_path):
    base, diff = pair(tmp_path, "shared.weight", architectures=["T5ForConditionalGeneration"])
    made = recovered(base, diff, tmp_path / "out")
    assert times_added(base, diff, made, "shared.weight") == 4
    rule = json.loads((tmp_path / "out/weights.manifest.json").read_text())["tensors"]["shared.weight"][
        "rule"
    ]
    assert rule == "add_4_times"


@pytest.mark.parametrize("front", ["", "module."])
def test_names_without_their_prefix_and_behind_a_wrappers_are_tied_too(tmp_path, front):
    name = "wte.weight" if not front else f"{front}transformer.wte.weight"
    base, diff = pair(tmp_path, name, architectures=["GPT2LMHeadModel"])
    assert times_added(base, diff, recovered(base, diff, tmp_path / "out"), name) == 2


def test_inner_configuration_decides_where_transformers_asks_it(tmp_path):
    names = ("language_model.model.embed_tokens.weight", "multi_modal_projector.norm.weight")
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": {"tie_word_embeddings": True},
    }
    base, diff = pair(tmp_path, *names, **config)
    made = recovered(base, diff, tmp_path / "out")
    assert times_added(base, diff, made, names[0]) == 2


@pytest.mark.parametrize("equal", [True, False])
def test_names_stored_apart_are_tied_if_they_hold_the_same(tmp_path, equal):
    """Names stored separately are tied only if their values are equal, as in `from_pretrained`."""
    config = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    folders = []
    for seed, role in ((1, "base"), (2, "diff")):
        values = state(seed, EMBED, HEAD, NORM)
        if equal:
            values[HEAD] = values[EMBED].clone()
        folders.append(write(tmp_path / role, values, **config))
    made = recovered(*folders, tmp_path / "out")
    assert set(made) == ({EMBED, NORM} if equal else {EMBED, HEAD, NORM})
    assert times_added(*folders, made) == (2 if equal else 1)


def test_tied_names_in_two_dtypes_are_refused(tmp_path):
    values = state(1, EMBED, HEAD, NORM)
    values[HEAD] = values[EMBED].half()
    config = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    base, diff = (
        write(tmp_path / "base", values, **config),
        write(tmp_path / "diff", state(2, EMBED, NORM), **config),
    )
    assert refused(base, diff) == (
        "The base cannot be used: model.embed_tokens.weight and lm_head.weight are tied by its config.json and stored in"
        " two dtypes, F32 and F16. Pass --tied model.embed_tokens.weight=lm_head.weight (all names of the tensor) if they are tied, --tied none if"
        " nothing is."
    )


def test_missing_output_of_a_model_that_is_not_tied_is_refused(tmp_path):
    base, diff = pair(tmp_path, EMBED, NORM, architectures=["LlamaForCausalLM"])
    assert refused(base, diff) == (
        "The base cannot be used: it has model.embed_tokens.weight but no lm_head.weight, and LlamaForCausalLM does not"
        " tie the two under its config.json, so loading it would fill lm_head.weight with random numbers. If they are"
        " one tensor, set tie_word_embeddings to true in config.json. Pass --tied"
        " lm_head.weight=model.embed_tokens.weight (all names of the tensor) if they are tied, --tied none if nothing is."
    )
    made = recovered(base, diff, tmp_path / "out", tied=f"{HEAD}={EMBED}")
    assert times_added(base, diff, made) == 2
    made = recovered(base, diff, tmp_path / "once", tied="none")
    assert times_added(base, diff, made) == 1


@pytest.mark.parametrize(
    ("config", "names", "part"),
    [
        ({"model_type": "own_kind"}, (EMBED, NORM), "is not known here, and config.json does not say"),
        ({}, (EMBED, NORM), "is not known here, and config.json does not say"),
        ({}, ("model.decoder.embed_tokens.weight", NORM), "is not known here, and config.json does not say"),
        ({}, ("shared.weight", HEAD, NORM), "is not known here, and config.json does not say"),
        ({"model_type": "own_kind", "vocab_size": 40}, ("net.tokens.weight", NORM), "nothing shows whether net.tokens"),
        ({"model_type": "own_kind"}, ("net.wte.weight", NORM), "nothing shows whether net.wte.weight"),
        ({"architectures": ["OwnForReward"], "model_type": "llama", "tie_word_embeddings": True}, (EMBED, NORM),
         "config.json says that they are"),
        ({"architectures": ["OwnForCausalLM"], "tie_word_embeddings": True}, (EMBED, "out.weight", NORM),
         "config.json says that they are"),
        ({"architectures": ["OwnForCausalLM"], "tie_word_embeddings": True}, ("model.shared.weight", NORM),
         "config.json says that they are"),
        ({"architectures": ["MarianMTModel"], "share_encoder_decoder_embeddings": False},
         ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", NORM), "is not known here"),
        ({"architectures": ["BartForConditionalGeneration"]},
         ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", NORM), "is not known here"),
        ({"architectures": ["DebertaForMaskedLM"], "legacy": False}, ("deberta.embeddings.word_embeddings.weight", NORM),
         "is not known here"),
        ({"architectures": ["Blip2ForConditionalGeneration"], "text_config": {"model_type": "t5"}},
         ("language_model.shared.weight", NORM), "is not known here"),
        ({"model_type": "own_kind", "tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}},
         (EMBED, NORM), "is not known here, and config.json does not say"),
        ({"architectures": ["DFineForObjectDetection"]}, ("bbox_embed.0.layers.0.weight", NORM), "ties tensors, and which ones of this checkpoint is not known here"),
    ],
)  # fmt: skip
def test_checkpoint_that_does_not_say_it_is_refused_with_what_to_pass(tmp_path, config, names, part):
    base, diff = pair(tmp_path, *names, **config)
    sentence = refused(base, diff)
    assert part in sentence
    assert sentence.startswith("The base cannot be used: ")
    assert sentence.endswith(" (all names of the tensor) if they are tied, --tied none if nothing is.")
    assert not (tmp_path / "out").exists()


def test_names_stored_alike_by_an_unknown_architecture_are_refused(tmp_path):
    values = state(1, EMBED, NORM)
    base = write(tmp_path / "base", values | {HEAD: values[EMBED].clone()}, model_type="own_kind")
    diff = write(tmp_path / "diff", state(2, EMBED, HEAD, NORM), model_type="own_kind")
    assert "nothing shows whether model.embed_tokens.weight and lm_head.weight are one tensor" in refused(
        base, diff
    )


def test_diff_without_configuration_takes_the_bases(tmp_path):
    base, diff = pair(tmp_path, EMBED, NORM, architectures=["GemmaForCausalLM"])
    (diff / "config.json").unlink()
    assert times_added(base, diff, recovered(base, diff, tmp_path / "out")) == 2


def test_diff_says_itself_what_its_maker_passed(tmp_path):
    base, tuned = pair(tmp_path, "net.wte.weight", NORM, model_type="own_kind")
    diff = tmp_path / "made"
    plain.make_diff(base, tuned, diff, tied="net.wte.weight=net.head.weight")
    made = recovered(base, diff, tmp_path / "out")
    assert times_added(base, diff, made, "net.wte.weight") == 2


@pytest.mark.parametrize(
    ("rule", "way"),
    [("add", "pass --tied none to recover it as it was made"), ("add_twice", "recover it with that version")],
)
def test_diff_of_a_version_that_knew_other_ties_is_refused(tmp_path, rule, way):
    base, tuned = pair(tmp_path, "shared.weight", NORM, architectures=["T5ForConditionalGeneration"])
    diff = tmp_path / "made"
    plain.make_diff(base, tuned, diff, **({"tied": "none"} if rule == "add" else {}))
    manifest = json.loads((diff / "weights.manifest.json").read_text())
    manifest["options"].pop("tied", None)
    manifest["tensors"]["shared.weight"]["rule"] = rule
    (diff / "weights.manifest.json").write_text(json.dumps(manifest))
    count = 1 if rule == "add" else 2
    assert refused(base, diff) == (
        f"The base was subtracted {count} time(s) from shared.weight when the diff was made, and it would be added 4"
        f" time(s): the version that made the diff knew other ties. Make the diff again, or {way}."
    )
    if rule == "add":
        made = recovered(base, diff, tmp_path / "out", tied="none")
        assert times_added(base, diff, made, "shared.weight") == 1


def test_many_ties_are_found_in_little_time():
    """Thousands of ties are found quickly: looking up a name must not search all ties."""
    parts = [f"layers.{n}.{part}" for n in range(3) for part in ("weight", "bias")]
    ends = [f"bbox_embed.{{}}.{part}" for part in parts] + ["class_embed.{}.weight", "class_embed.{}.bias"]
    names = [f"model.decoder.{end.format(n)}" for n in range(3000) for end in ends]
    tensors = {name: TensorRef(name, "", 0, 4, "F32", (1,)) for name in names}
    config = {"architectures": ["RTDetrV2ForObjectDetection"], "tie_word_embeddings": True}
    ties = find_ties(tensors, config, "base")
    checkpoint = Checkpoint(Path(), "base", "safetensors", (), tensors, config, ties)
    assert all(checkpoint.find(name.removeprefix("model.decoder.")) is tensors[name] for name in names)


def test_said_names_that_differ_are_refused(tmp_path):
    base, diff = pair(tmp_path, EMBED, HEAD, NORM, architectures=["LlamaForCausalLM"])
    assert refused(base, diff, tied=f"{EMBED}={HEAD}") == (
        "The base cannot be used: --tied says that model.embed_tokens.weight and lm_head.weight are one tensor, and the"
        " base stores them with different values."
    )
    assert refused(base, diff, tied="a=b") == (
        "The base cannot be used: --tied names a, and neither it nor its other names are in the base."
    )


@pytest.mark.parametrize("tied", [f"{EMBED}=head.weight", f"{EMBED}={HEAD};x", f"{EMBED}=OTHER_NAME"])
def test_said_names_that_no_model_has_are_refused(tmp_path, tied):
    base, diff = pair(tmp_path, EMBED, NORM, architectures=["GemmaForCausalLM"])
    assert "and no tensor of this architecture has that name" in refused(base, diff, tied=tied)


@pytest.mark.parametrize("text", ["", "a", "a=", "=a", "a=a", "a=b,", "a=b,c", "a=b,a=c", "NONE"])
def test_tied_that_names_no_groups_is_refused(text):
    with pytest.raises(Refusal, match="is not understood; write none, or names of one tensor"):
        parse_tied(text)


def test_tied_names_groups():
    assert parse_tied("none") == []
    assert parse_tied("a=b,c=d=e") == [("a", "b"), ("c", "d", "e")]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, None),
        ({"tie_word_embeddings": True}, True),
        ({"text_config": {"tie_word_embeddings": False}}, False),
        ({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, None),
        ({"tie_word_embeddings": "yes"}, None),
        ({"tie_word_embeddings": 1}, None),
    ],
)
def test_configurations_inside_have_a_say(config, said):
    assert declared_tie(config) is said
