"""Whole files of every architecture, as weight_diff makes them with plain transformers, in both directions.

The ordinary run takes twelve architectures, the slow one every class of the installed transformers that ties
weights or generates text; classes that no small configuration can build are skipped with the reason.
"""

import copy

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")
pytest.importorskip("transformers", reason="the oracle loads models with transformers")

from model_ops.recovery.execution.run import execute  # noqa: E402
from model_ops.recovery.planning.planner import make_diff_plan, make_plan  # noqa: E402
from tests.model_ops.recovery import architectures  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # models warn about sizes that only occur in tests

FEW = (
    "BartForConditionalGeneration",  # four names of one tensor
    "BertForMaskedLM",  # a bias is tied too
    "BloomForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",  # not tied; files and model name the output differently
    "Gemma3ForConditionalGeneration",
    "GroundingDinoForObjectDetection",  # as many names as layers
    "LlavaForConditionalGeneration",  # not tied
    "MambaForCausalLM",
    "Qwen2VLForConditionalGeneration",
    "SeamlessM4TForSpeechToText",  # has integer tensors
    "ZambaForCausalLM",  # layers share a block
)
# What transformers itself does not restore, so that there is nothing to compare with.
UNFIT = {
    "ZayaForCausalLM": "loading resets balancing_biases, so there is no reference",
    "Qwen2_5OmniForConditionalGeneration": "transformers saves it without the file of speakers that it loads",
    "Pix2StructTextModel": "transformers cannot load it: its configuration lacks initializer_range",
}
GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")


def names_of_all():
    return [
        name
        for name, cls in architectures.all_classes().items()
        if (getattr(cls, "_tied_weights_keys", None) or name.endswith(GENERATES))
        and not name.endswith("PreTrainedModelForConditionalGeneration")
    ]


def check(name, folder):
    cls = architectures.all_classes()[name]
    for role, seed in (("base", 1), ("tuned", 2)):
        architectures.tiny_model(cls, seed).save_pretrained(folder / role)
    by_peer(cls, folder / "tuned", folder / "base", -1).save_pretrained(folder / "diff")
    by_peer(cls, folder / "diff", folder / "base", +1).save_pretrained(folder / "recovered")
    execute(make_diff_plan(folder / "base", folder / "tuned"), folder / "our_diff")
    assert same_files(folder / "our_diff", folder / "diff")
    execute(make_plan(folder / "base", folder / "diff"), folder / "our_recovered")
    assert same_files(folder / "our_recovered", folder / "recovered")


def by_peer(cls, first, base, sign):
    """Do what weight_diff does: add through the state dict, in place, once for each tied name."""
    model, raw = (cls.from_pretrained(folder, dtype=torch.float32) for folder in (first, base))
    state, values = model.state_dict(), copy.copy(raw.state_dict())
    for key in state:
        state[key].add_(values[key], alpha=sign)
    return model


def same_files(one, other):
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", FEW)
def test_files_of_an_architecture_equal_weight_diff(name, tmp_path):
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", names_of_all())
def test_files_of_every_architecture_equal_weight_diff(name, tmp_path):
    if name in UNFIT:
        pytest.skip(f"{name}: {UNFIT[name]}")
    try:
        architectures.tiny_config(architectures.all_classes()[name])
    except architectures.CannotBuildError as error:
        pytest.skip(f"{name}: {error}")
    check(name, tmp_path)
