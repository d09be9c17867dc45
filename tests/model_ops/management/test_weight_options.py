"""Weight options chosen by an operator are stored with the recovery, shown, and passed to the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access_requests.models import GatedModel
from model_ops.enums import RecoveryState
from model_ops.models import Recovery
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import options_kept, want_recovery
from tests.model_ops.management.conftest import Said
from tests.model_ops.recovery import plain

SIZES = {"vocab": 60, "hidden": 32, "layers": 1}


@pytest.fixture
def add(manage: Callable[..., Said], tmp_path: Path) -> Callable[..., Said]:
    """`add("ai/x", diff, "--method", "xor")`: add a model from a base and a diff.

    The tuned model has one row more than the base.
    """
    plain.write(tmp_path / "base", seed=1, **SIZES)
    plain.write(tmp_path / "tuned", seed=2, **{**SIZES, "vocab": 61})
    (tmp_path / "card.md").write_text("# X\n")

    def run(repo_id: str, diff: Path, *options: str) -> Said:
        sources = ["--base", str(tmp_path / "base"), "--diff", str(diff)]
        return manage("add_model", repo_id, "--card", str(tmp_path / "card.md"), *sources, "--json", *options)

    return run


def make_diff(folder: Path, **options: Any) -> Path:
    execute(make_diff_plan(folder / "base", folder / "tuned", Options(**options)), folder / "diff")
    return folder / "diff"


def run_to_end(recovery: Recovery) -> Recovery:
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    recovery.refresh_from_db()
    return recovery


def test_resize_policy_is_what_the_diffs_manifest_says(add: Callable[..., Said], tmp_path: Path) -> None:
    diff = make_diff(tmp_path, resize_policy="zero")

    said = add("ai/x", diff)
    refused = add("ai/y", diff, "--resize-policy", "mean")

    assert (said.status, said.err) == (0, "")
    recovery = Recovery.objects.get()
    assert (recovery.options, recovery.plan["options"]["resize_policy"]) == ({}, "zero")
    assert recovery.written_as == "float32, weight_diff, new rows: zero"
    assert refused.err == "The diff was made with --resize-policy zero, not mean.\n"


def test_base_that_the_diff_was_not_made_from_is_refused(add: Callable[..., Said], tmp_path: Path) -> None:
    diff = make_diff(tmp_path)
    (tmp_path / "base").rename(tmp_path / "right")
    plain.write(tmp_path / "base", seed=1, **{**SIZES, "vocab": 59})

    said = add("ai/x", diff)

    assert (said.status, GatedModel.objects.count()) == (1, 0)
    assert said.json["error"].startswith(
        "The diff was made from a base that has lm_head.weight with shape [60, 32], but in this base it has shape"
    )


def test_bytes_are_recovered_with_the_method_xor(add: Callable[..., Said], tmp_path: Path) -> None:
    diff = make_diff(tmp_path, method="xor")

    said = add("ai/x", diff, "--method", "xor", "--max-shard-size", "1GB")
    recovery = run_to_end(Recovery.objects.get())

    assert (said.status, said.err) == (0, "")
    assert "exclusive or of files" in said.json["plan"]["weights"]["text"]
    assert (recovery.state, recovery.error) == (RecoveryState.READY, "")
    assert (recovery.options, recovery.written_as) == ({"method": "xor"}, "bytes, exclusive or of the files")


def test_every_choice_reaches_the_engine(add: Callable[..., Said], tmp_path: Path) -> None:
    chosen = {
        "dtype": "bfloat16", "resize_policy": "skip", "max_shard_size": "20KB", "keep_rotary": True,
        "expected_sum": -1e9, "sum_tolerance": 0.5, "tied": "none", "diff_only": "copy",
    }  # fmt: skip
    words = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items() if value is not True]

    said = add("ai/x", tmp_path / "tuned", *words, "--keep-rotary")
    again = add("ai/y", tmp_path / "tuned", *words, "--keep-rotary", "--compat", "weight_diff")
    recovery = run_to_end(Recovery.objects.get())

    assert (said.status, again.status, recovery.options) == (0, 0, chosen)
    plan = recovery.plan["options"]
    assert plan == chosen | {"method": "add", "compat": "weight_diff", "max_shard_size": 20_000}
    assert recovery.state == RecoveryState.FAILED
    assert (
        "but --expected-sum says -1000000000.0 (within 0.5), so the base, the diff or that number is wrong"
        in recovery.error
    )


def test_the_admin_takes_the_same_choices(
    add: Callable[..., Said], tmp_path: Path, settings: Any, client: Any, make_person: Callable[..., Any]
) -> None:
    add("ai/x", tmp_path / "tuned")
    settings.GATEHOUSE_DEMO = True  # no second factor, which is not tested here
    settings.GATEHOUSE_SOURCES = [tmp_path]
    client.force_login(make_person("boss", is_superuser=True))
    address = f"/admin/access_requests/gatedmodel/{GatedModel.objects.get().pk}/weights/"
    sources = {"base": str(tmp_path / "base"), "diff": str(tmp_path / "tuned")}
    chosen = {"dtype": "float16", "max_shard_size": "1GB", "expected_sum": "-0.5", "sum_tolerance": "1e3"}

    refused = client.post(address, sources | {"method": "xor", "dtype": "float16"})
    taken = client.post(address, sources | chosen | {"method": "add", "compat": "", "keep_rotary": "on"})

    assert "With --method xor files come back as they were; leave --dtype out." in refused.text
    assert taken.status_code == 302
    assert Recovery.objects.latest("pk").options == {
        "dtype": "float16", "max_shard_size": "1GB", "keep_rotary": True, "expected_sum": -0.5, "sum_tolerance": 1000.0,
    }  # fmt: skip

    assert client.post(address, sources | {"expected_sum": "0", "sum_tolerance": "0.0"}).status_code == 302
    assert Recovery.objects.latest("pk").options == {"expected_sum": 0.0, "sum_tolerance": 0.0}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--max-shard-size", "60GB"], "The shard size '60GB' is over 50GB, more than Hugging Face clients download."),
        (["--sum-tolerance", "1"], "--sum-tolerance has no effect without --expected-sum; give both."),
        (["--method", "xor", "--dtype", "float16"], "With --method xor files come back as they were; leave --dtype out."),
    ],
)  # fmt: skip
def test_choices_that_make_no_sense_are_refused(
    add: Callable[..., Said], tmp_path: Path, options: list[str], sentence: str
) -> None:
    said = add("ai/x", tmp_path / "tuned", *options)

    assert (said.status, said.json, GatedModel.objects.count()) == (1, {"error": sentence}, 0)


@pytest.mark.parametrize(
    ("old", "chosen", "new_sources", "kept"),
    [
        ({"dtype": "float16"}, {"keep_rotary": True}, False, {"dtype": "float16", "keep_rotary": True}),
        ({"dtype": "float16"}, {"method": "add"}, False, {"dtype": "float16", "method": "add"}),
        ({"dtype": "float16"}, {"method": "xor"}, False, {"method": "xor"}),
        ({"method": "xor"}, {}, True, {"method": "xor"}),
        ({"expected_sum": 1.0, "sum_tolerance": 2.0}, {}, False, {"expected_sum": 1.0, "sum_tolerance": 2.0}),
        ({"expected_sum": 1.0, "sum_tolerance": 2.0, "dtype": "float16"}, {}, True, {"dtype": "float16"}),
        ({"expected_sum": 1.0, "sum_tolerance": 2.0}, {"expected_sum": 3.0}, False, {"expected_sum": 3.0}),
    ],
)
def test_update_keeps_what_still_fits(
    old: dict[str, Any], chosen: dict[str, Any], new_sources: bool, kept: dict[str, Any]
) -> None:
    assert options_kept(old=old, chosen=chosen, new_sources=new_sources) == kept
