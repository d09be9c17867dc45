"""Planning refuses swapped or incomplete folders, which it recognises by their manifests."""

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import plain


@pytest.fixture
def made(tmp_path):
    """Return (base, tuned, the diff between them, the recovered weights)."""
    base = plain.write(tmp_path / "base", seed=1)
    tuned = plain.write(tmp_path / "tuned", seed=2)
    execute(make_diff_plan(base, tuned), tmp_path / "diff")
    execute(make_plan(base, tmp_path / "diff"), tmp_path / "again")
    return base, tuned, tmp_path / "diff", tmp_path / "again"


@pytest.mark.parametrize("method", ["add", "xor"])
@pytest.mark.parametrize(
    ("plan", "first", "second", "sentence"),
    [
        (make_plan, "diff", "base", r"^diff holds a diff, .* and was named as the base; look whether two folders were swapped\.$"),
        (make_plan, "base", "again", r"^again holds recovered weights, .* was named as the diff; "),
        (make_diff_plan, "diff", "tuned", r"^diff holds a diff, .* was named as the base; "),
        (make_diff_plan, "base", "diff", r"^diff holds a diff, .* was named as the tuned; "),
        (make_diff_plan, "base", "base", r"was named as the base and as the tuned model; name the folder that holds the tuned model\.$"),
    ],
)  # fmt: skip
def test_folder_in_the_wrong_place_is_refused(made, tmp_path, plan, first, second, sentence, method):
    with pytest.raises(Refusal, match=sentence):
        plan(tmp_path / first, tmp_path / second, Options(method=method))


def test_recovered_weights_may_be_a_base(made):
    base, _, _, again = made
    assert make_diff_plan(again, base).shards


def test_diff_without_one_of_its_files_is_refused(made):
    base, _, diff, _ = made
    (diff / "config.json").unlink()
    with pytest.raises(Refusal, match=r"^'config\.json' is missing in diff or cannot be read\.$"):
        make_plan(base, diff)


def test_diff_with_a_file_of_another_size_is_refused(made):
    base, _, diff, _ = made
    with (diff / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(Refusal, match=r"^config\.json in diff is \d+ bytes long instead of \d+, as its "):
        make_plan(base, diff)


@pytest.mark.parametrize("outer", ["base", "diff"])
def test_target_inside_an_input_is_refused(made, outer, tmp_path):
    base, _, diff, _ = made
    before = sorted((tmp_path / outer).iterdir())
    with pytest.raises(
        Refusal, match=rf"^sub lies inside {outer}, which is an input; choose a folder outside of it\.$"
    ):
        execute(make_plan(base, diff), tmp_path / outer / "sub")
    assert sorted((tmp_path / outer).iterdir()) == before
