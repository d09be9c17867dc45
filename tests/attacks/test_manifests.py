"""Files that a stranger puts next to a diff to influence us: `weights.manifest.json` and `model_sum.txt`."""

import json

import pytest

from model_ops.recovery.planning.planner import make_plan
from tests.attacks.kit import floats, run, sound_tensors, write_tensors

ESCAPE = "\x1b]0;PWNED\x07\n"
FACT = {"dtype": "F32", "shape": [8], "sha256": "0" * 64}


def manifest(**facts):
    sound = {
        "engine": "gatehouse-recovery",
        "engine_version": "1",
        "action": "make_diff",
        "identity": "x",
        "options": {"method": "add", "compat": "weight_diff", "resize_policy": None},
        "files": [],
        "base_tensors": {},
    }
    return {**sound, **facts}


def put(world, **facts):
    (world.diff / "weights.manifest.json").write_text(json.dumps(manifest(**facts)))


def options(**changed):
    return {"options": {**manifest()["options"], **changed}}


def test_sound_manifest_is_believed_so_the_refusals_mean_something(world):
    put(world)
    assert world.plan().status == 0


LIES = {
    "no options": {"options": None},
    "options in a list": {"options": ["add"]},
    "method that is unknown": options(method="exec"),
    "method of a list": options(method=["add"]),
    "method that steers a terminal": options(method=ESCAPE * 1000),
    "method of the other kind": options(method="xor"),
    "compat that is unknown": options(compat=ESCAPE),
    "compat of a table": options(compat={"a": 1}),
    "compat of the other kind": options(compat="fastchat"),
    "policy that is unknown": options(resize_policy="median" + ESCAPE),
    "policy of a list": options(resize_policy=["mean"]),
    "policy of a number": options(resize_policy=1e999),
    "no table of tensors": {"base_tensors": [FACT]},
    "tensor of a text": {"base_tensors": {"model.norm.weight": "0" * 64}},
    "tensor without a dtype": {"base_tensors": {"model.norm.weight": {**FACT, "dtype": None}}},
    "dtype of a list": {"base_tensors": {"model.norm.weight": {**FACT, "dtype": ["F32"]}}},
    "dtype of bytes": {"base_tensors": {"model.norm.weight": {**FACT, "dtype": "U8"}}},
    "shape that is huge": {"base_tensors": {"model.norm.weight": {**FACT, "shape": [2**70]}}},
    "shape of infinity": {"base_tensors": {"model.norm.weight": {**FACT, "shape": [float("inf")]}}},
    "shape of another": {"base_tensors": {"model.norm.weight": {**FACT, "shape": [9]}}},
    "hash that is none": {"base_tensors": {"model.norm.weight": {**FACT, "sha256": "x" * 64}}},
    "hash of a megabyte": {"base_tensors": {"model.norm.weight": {**FACT, "sha256": "0" * 1_000_000}}},
    "hash of another": {"base_tensors": {"model.norm.weight": FACT}},
    "tensor that is not there": {"base_tensors": {"evil": FACT}},
    "name that steers a terminal": {"base_tensors": {ESCAPE: FACT}},
    "name of a megabyte": {"base_tensors": {"a" * 1_000_000: FACT}},
    "another engine": {"engine": ESCAPE},
    "files in a table": {"files": {}},
    "file that is a number": {"files": [5]},
    "file of a size that is true": {"files": [{"path": "config.json", "size": True}]},
    "file without a name": {"files": [{"path": 3, "size": 1}]},
    "file without a size": {"files": [{"path": "config.json"}]},
    "file that is missing": {"files": [{"path": "evil", "size": 1}]},
    "file outside": {"files": [{"path": "../base/config.json", "size": 1}]},
    "file of another size": {"files": [{"path": "config.json", "size": 10**18}]},
}


@pytest.mark.parametrize("case", LIES)
def test_manifest_that_lies_is_refused(world, case):
    put(world, **LIES[case])
    world.refused()


def test_digest_of_bytes_for_a_tensor_of_numbers_is_refused_in_a_bytewise_plan(world):
    put(world, **options(method="xor"), base_tensors={"model.safetensors": {**FACT, "dtype": "F32"}})
    assert "is damaged at the base tensor 'model.safetensors'" in world.refused("--method", "xor")


def test_action_that_is_a_table_says_nothing(world):
    put(world, action={"make_diff": "recover"})
    assert "model.safetensors" in world.made()


def test_manifest_of_a_recovery_is_not_taken_for_that_of_a_diff(world):
    put(world, action="recover", options=["evil"])
    assert "and was named as the diff; look whether two folders were swapped." in world.refused()


def test_manifest_cannot_choose_how_much_is_written(world):
    """Its options are compared but not applied, except the policy for new rows."""
    put(world, **options(dtype="float16", max_shard_size="1KB", keep_rotary=True))
    assert len(world.made()["model.safetensors"]) > 600


def test_verify_of_a_folder_with_a_manifest_that_lies_reads_nothing_outside(world):
    secret = {
        "path": "../secret.safetensors",
        "size": world.secret.stat().st_size,
        "sha256": "0" * 64,
        "git_sha1": "0" * 40,
    }
    odd = [secret, {**secret, "path": "/etc/passwd"}, {**secret, "path": ESCAPE}, {**secret, "path": ["a"]}, 7, None,
           {**secret, "path": "model.safetensors", "size": 1e999}, {**secret, "path": "\ud800"}]  # fmt: skip
    put(world, files=odd)
    outcome = run("verify", world.diff)
    assert (outcome.status, outcome.stdout, outcome.watch.writes) == (1, "", [])
    assert outcome.sentence
    outcome = run("verify", world.diff, "--json")
    assert outcome.status == 1
    assert "\\u001b" not in outcome.stdout
    assert outcome.stdout.isascii()
    problems = json.loads(outcome.stdout)["problems"]
    assert all(problem.isprintable() for problem in problems)


SUMS = {
    "nothing": b"",
    "no number": b"many",
    "code": b"__import__('os').system('touch PWNED')",
    "NaN": b"nan",
    "infinity": b"inf",
    "1e999": b"1e999",
    "two numbers": b"1.0 2.0",
    "a thousand digits": b"1" * 1000,
    "10 MB": b"1" * 10_000_000,
    "not UTF-8": b"\xff\xfe1",
    "an escape": b"\x1b[2J1.0",
    "a NUL": b"1.0\0",
}


@pytest.mark.parametrize("case", SUMS)
def test_sum_that_is_no_number_is_refused(world, case):
    (world.diff / "model_sum.txt").write_bytes(SUMS[case])
    assert world.refused() == (
        "model_sum.txt in the diff's folder does not contain a single number; correct it or remove it."
    )


def test_sum_of_another_model_fails_and_leaves_nothing(world):
    (world.diff / "model_sum.txt").write_text("1e300")
    assert "model_sum.txt says 1e+300" in world.failed()


def test_identity_of_a_plan_does_not_depend_on_what_strangers_call_themselves(world):
    """Two folders with the same content: the identity compared with a manifest has no path and no time."""
    first = make_plan(world.base, world.diff).identity
    moved = world.root / "moved"
    world.diff.rename(moved)
    assert make_plan(world.base, moved).identity == first
    write_tensors(
        moved / "model.safetensors",
        {**sound_tensors(0.5), "model.norm.weight": ("F32", (8,), floats(8, 9.0))},
    )
    assert make_plan(world.base, moved).identity != first
