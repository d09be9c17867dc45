"""The plan as text and as JSON, and its refusal if there is not enough room."""

import json
import os
import shutil

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from tests.model_ops.recovery import models, plain

torch = plain.torch
BUFFERS = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": torch.ones(4) for n in range(25)}


@pytest.fixture
def pair(tmp_path):
    shapes = {"model.embed_tokens.weight": (10, 8), "lm_head.weight": (10, 8), "model.norm.weight": (8,)}
    base = plain.random_state(1, shapes, (torch.float16, torch.bfloat16))
    diff = plain.random_state(2, {**shapes, "lm_head.weight": (12, 8), "model.embed_tokens.weight": (12, 8)})
    return plain.write_state(tmp_path / "base", base | BUFFERS), plain.write_state(tmp_path / "diff", diff)


def test_plan_as_text_says_what_is_read_written_grown_and_dropped(pair, tmp_path):
    plan = make_plan(*pair, target=tmp_path / "out")
    assert plan.summary() == (
        "base: 28 tensors, bfloat16/float16/float32, safetensors, 1 file(s), 3.5 KB\n"
        "diff: 3 tensors, float32, safetensors, 1 file(s), 1.1 KB\n"
        "recover: weight_diff arithmetic, written as float32 in 1 weight file(s) and 1 other(s)\n"
        "written: model.safetensors, 1.1 KB\n"
        "written: config.json, 56 B\n"
        "grown: lm_head.weight: 10 -> 12 rows (mean)\n"
        "grown: model.embed_tokens.weight: 10 -> 12 rows (mean)\n"
        + "".join(f"dropped: {name}\n" for name in sorted(BUFFERS)[:19])
        + "dropped: and 6 more\n"
        "identity of the base: not named by the diff\n"
        "reads 1.2 KB, writes 1.1 KB\n"
        f"needs 16.8 MB of free disk and at most about {plan.peak_memory / 1e6:.1f} MB of memory"
    )


def test_plan_as_json_holds_everything(pair, tmp_path):
    plan = make_plan(
        *pair, Options(expected_sum=1.5, max_shard_size="500KB"), target=tmp_path / "out"
    ).to_json()
    assert json.loads(json.dumps(plan)) == plan
    assert plan["options"] == {
        "method": "add", "compat": "weight_diff", "dtype": "float32", "resize_policy": "mean",
        "max_shard_size": 500_000, "keep_rotary": False, "expected_sum": 1.5, "sum_tolerance": 0.01,
    }  # fmt: skip
    assert plan["dropped"] == sorted(BUFFERS)
    assert plan["disk_needed"] > plan["bytes_to_write"] == sum(file["bytes"] for file in plan["files"])
    assert (plan["base_is_checked"], plan["expected_sum"]) == (
        False,
        {"value": 1.5, "tolerance": 0.01, "source": "--expected-sum"},
    )
    assert {fact["rule"] for shard in plan["shards"] for fact in shard["tensors"]} == {"add", "add_grown"}


def test_policy_that_changes_nothing_makes_the_same_plan(tmp_path):
    """Policies that do not apply give the same plan, so results can be shared between them."""
    folders = [plain.write(tmp_path / name, seed=seed, vocab=20, hidden=8) for seed, name in enumerate("bd")]
    identities = {
        make_plan(*folders, Options(resize_policy=policy)).identity for policy in (None, "mean", "zero")
    }
    assert len(identities) == 1


def test_plan_that_finds_no_room_is_refused(tmp_path):
    """A plan for 4 TB is refused on a smaller disk; the inputs are holes, so only headers are read."""
    size = 40 * 10**9
    table = {
        f"w{n}": {"dtype": "F16", "shape": [size // 2], "data_offsets": [n * size, (n + 1) * size]}
        for n in range(100)
    }
    header = json.dumps(table).encode()
    for name in ("base", "diff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(tmp_path / name / "model.safetensors", 8 + len(header) + 100 * size)
    if shutil.disk_usage(tmp_path).free > 4 * 10**12:
        pytest.skip("This disk has room for 4 TB")
    make_plan(tmp_path / "base", tmp_path / "diff", Options(dtype="float16"))
    with pytest.raises(
        Refusal, match=r"There is not enough disk space for out: \d+ bytes are needed and \d+ are free"
    ):
        make_plan(tmp_path / "base", tmp_path / "diff", Options(dtype="float16"), target=tmp_path / "out")


def test_recover_command_becomes_a_plan_by_changing_one_word(pair, tmp_path):
    """Every option of recover works for plan too, which writes nothing and does not look for a GPU."""
    words = ["--path_raw", pair[0], "--path_diff", pair[1], "--path_tuned", tmp_path / "out", "--json"]
    words += [
        "--memory",
        "2GB",
        "--jobs",
        "3",
        "--device",
        "cuda:1",
        "--non-finite",
        "report",
        "--progress-json",
    ]
    words += [
        "--exit-with-parent",
        "--run-id",
        "5f3a",
        "--only",
        "model.safetensors",
        "--test_inference",
        "False",
    ]
    done = models.run_cli("plan", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["peak_memory"] == make_plan(*pair).peak_memory
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--memory", "100MB"), "--memory 100.0 MB is too little: one shard in work needs about "),
        (("--jobs", "0"), "--jobs 0 makes no sense; give 1 to 4096."),
        (("--device", "tpu"), "The device 'tpu' is not known; use auto, cpu or cuda[:N]."),
        (("--only", "more"), "--only 'more' is not a weight file of this plan; plan --json lists its files."),
    ],
)
def test_plan_refuses_what_recover_refuses(pair, options, says):
    done = models.run_cli("plan", "--path_raw", pair[0], "--path_diff", pair[1], *options)
    assert done.returncode == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1
