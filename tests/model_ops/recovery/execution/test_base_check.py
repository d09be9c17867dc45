"""Our diffs name their base: names and shapes are compared during planning, values before writing."""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import plain

SIZES = {"vocab": 60, "hidden": 32, "layers": 1}
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return (base, diff), with a diff made by us."""
    folder = tmp_path_factory.mktemp("made")
    base = plain.write(folder / "base", seed=1, dtype=plain.torch.bfloat16, **SIZES)
    tuned = plain.write(folder / "tuned", seed=2, **SIZES)
    execute(make_diff_plan(base, tuned), folder / "diff")
    return base, folder / "diff"


def copy_with(diff, folder, change):
    """Return a copy of the diff with a changed manifest."""
    folder.mkdir()
    for path in diff.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((diff / "weights.manifest.json").read_text())
    change(manifest)
    (folder / "weights.manifest.json").write_text(json.dumps(manifest))
    return folder


def test_base_with_another_vocabulary_is_refused_while_planning(made, tmp_path):
    """Without the manifest, the missing row would be added."""
    base = plain.write(tmp_path / "base", seed=1, **{**SIZES, "vocab": 59})
    with pytest.raises(Refusal) as caught:
        make_plan(base, made[1])
    assert str(caught.value) == (
        "The diff was made from a base that has lm_head.weight with shape [60, 32], but in this base it has shape "
        "[59, 32]; use the base that its publisher names."
    )


def test_base_without_a_tensor_is_refused_while_planning(made, tmp_path):
    base = plain.write(tmp_path / "base", seed=1, **{**SIZES, "layers": 0})
    with pytest.raises(
        Refusal, match=r"has model\.layers\.0\.\S+ with shape \[.*\], but this base has no such"
    ):
        make_plan(base, made[1])


def test_base_file_of_another_length_is_refused_while_planning(made, tmp_path):
    tuned = plain.write(tmp_path / "tuned", seed=2, **SIZES)
    execute(make_diff_plan(made[0], tuned, Options(method="xor")), tmp_path / "diff")
    shorter = plain.write(tmp_path / "base", seed=1, dtype=plain.torch.bfloat16, **{**SIZES, "vocab": 50})
    with pytest.raises(Refusal, match=r"has model\.safetensors with shape \[\d+\], but in this base it has"):
        make_plan(shorter, tmp_path / "diff", Options(method="xor"))


@pytest.mark.parametrize(
    "fact",
    [
        None, [], "x", {}, {"dtype": "BOOL"}, {"dtype": ["F32"]}, {"dtype": "U64"}, {"shape": None}, {"shape": [-1]},
        {"shape": [True]}, {"shape": [32.0]}, {"shape": ["32"]}, {"shape": [2**63]}, {"shape": [1] * 17},
        {"sha256": None}, {"sha256": "A" * 64}, {"sha256": "a" * 63},
    ],
)  # fmt: skip
def test_damaged_fact_of_a_manifest_is_refused_by_name(made, tmp_path, fact):
    def change(manifest):
        facts = manifest["base_tensors"]
        facts[NORM] = {**facts[NORM], **fact} if isinstance(fact, dict) and fact else fact

    with pytest.raises(Refusal, match=r"is damaged at the base tensor 'model\.norm\.weight'; remove it"):
        make_plan(made[0], copy_with(made[1], tmp_path / "diff", change))


@pytest.mark.parametrize(
    "options",
    [{"method": "other"}, {"method": ["add"]}, {"compat": None}, {"compat": "x"}, {"resize_policy": "median"}, {"resize_policy": {}}],
)  # fmt: skip
def test_manifest_with_unknown_options_is_refused(made, tmp_path, options):
    diff = copy_with(made[1], tmp_path / "diff", lambda manifest: manifest["options"].update(options))
    with pytest.raises(Refusal, match=f"names a {next(iter(options)).replace('_', ' ')} that is not known"):
        make_plan(made[0], diff)


@pytest.mark.parametrize("damage", ["options", "base_tensors"])
def test_manifest_without_its_tables_is_refused(made, tmp_path, damage):
    diff = copy_with(made[1], tmp_path / "diff", lambda manifest: manifest.update({damage: []}))
    with pytest.raises(Refusal, match="is damaged; remove it"):
        make_plan(made[0], diff)
