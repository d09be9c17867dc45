"""Byte-wise diffs are exact for any bytes, and need exactly the same base files."""

import json

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import models, plain

NAMES = {"weights.manifest.json"}


@pytest.fixture
def pair(tmp_path):
    """Return a base and a larger tuned model whose float32 sum would not be exact."""
    return plain.write(tmp_path / "base", seed=1), plain.write(tmp_path / "tuned", seed=2, vocab=1003)


def without_manifest(folder):
    return {name: data for name, data in plain.files_of(folder).items() if name not in NAMES}


def exclusive_or(payload, base):
    """Return what OpenAssistant's xor_codec does to one file."""
    base = base[: len(payload)].ljust(len(payload), b"\0")
    return bytes(a ^ b for a, b in zip(payload, base, strict=True))


def test_xor_diff_restores_every_file_byte_for_byte(pair, tmp_path):
    base, tuned = pair
    made = execute(make_diff_plan(base, tuned, Options(method="xor")), tmp_path / "diff")
    assert made.not_restored == 0
    execute(make_plan(base, tmp_path / "diff", Options(method="xor")), tmp_path / "out")
    assert without_manifest(tmp_path / "out") == plain.files_of(tuned)
    manifest = json.loads((tmp_path / "out/weights.manifest.json").read_text())
    assert manifest["tensors"] == {"model.safetensors": {"rule": "xor"}}
    assert (tmp_path / "diff/config.json").read_bytes() == (tuned / "config.json").read_bytes()


@pytest.mark.parametrize("vocab", [900, 1003])
def test_xor_diff_is_the_exclusive_or_with_the_base_padded_or_cut(tmp_path, vocab):
    base = plain.write(tmp_path / "base", seed=1, hidden=32)
    tuned = plain.write(tmp_path / "tuned", seed=2, hidden=32, vocab=vocab)
    execute(make_diff_plan(base, tuned, Options(method="xor")), tmp_path / "diff")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (tuned, base)]
    assert (tmp_path / "diff/model.safetensors").read_bytes() == exclusive_or(*weights)
    execute(make_plan(base, tmp_path / "diff", Options(method="xor")), tmp_path / "out")
    assert without_manifest(tmp_path / "out") == plain.files_of(tuned)


def test_payload_of_another_tool_with_coded_tokenizer_is_restored(tmp_path):
    base = plain.write(tmp_path / "base", seed=1, hidden=32)
    tuned = plain.write(tmp_path / "tuned", seed=2, hidden=32)
    (base / "tokenizer.model").write_bytes(b"the same tokenizer")
    (tuned / "tokenizer.model").write_bytes(b"the same tokenizer")
    (tmp_path / "payload").mkdir()
    for path in tuned.iterdir():
        coded = exclusive_or(path.read_bytes(), (base / path.name).read_bytes())
        (tmp_path / "payload" / path.name).write_bytes(coded)
    (tmp_path / "payload/added_tokens.json").write_text("{}")
    execute(make_plan(base, tmp_path / "payload", Options(method="xor")), tmp_path / "out")
    assert without_manifest(tmp_path / "out") == {**plain.files_of(tuned), "added_tokens.json": b"{}"}
    wrong = plain.write(tmp_path / "wrong", seed=3, hidden=32, vocab=999)
    with pytest.raises(Failure, match="this is not the very base"):
        execute(make_plan(wrong, tmp_path / "payload", Options(method="xor")), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_another_base_is_refused_before_writing(pair, tmp_path):
    base, tuned = pair
    execute(make_diff_plan(base, tuned, Options(method="xor")), tmp_path / "diff")
    wrong = plain.write(tmp_path / "wrong", seed=3)
    with pytest.raises(Refusal, match=r"not the base.*model\.safetensors"):
        execute(make_plan(wrong, tmp_path / "diff", Options(method="xor")), tmp_path / "out")


def test_xor_diff_of_make_diff_is_not_added_and_the_other_way_round(pair, tmp_path):
    base, tuned = pair
    execute(make_diff_plan(base, tuned, Options(method="xor")), tmp_path / "xor")
    execute(make_diff_plan(base, tuned), tmp_path / "add")
    with pytest.raises(Refusal, match="made with --method xor, not with add"):
        make_plan(base, tmp_path / "xor")
    with pytest.raises(Refusal, match="made with --method add, not with xor"):
        make_plan(base, tmp_path / "add", Options(method="xor"))


def test_xor_plan_and_run_from_the_command_line(pair, tmp_path):
    base, tuned = pair
    inputs = ("--path_raw", base, "--method", "xor", "--json")
    made = models.run_cli("make_diff", *inputs, "--path_tuned", tuned, "--path_diff", tmp_path / "diff")
    assert json.loads(made.stdout)["not_restored"] == 0
    plan = json.loads(models.run_cli("plan", *inputs, "--path_diff", tmp_path / "diff").stdout)
    assert [shard["tensors"][0]["rule"] for shard in plan["shards"]] == ["xor"]
    refused = models.run_cli("plan", *inputs, "--path_diff", tmp_path / "diff", "--dtype", "float16")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_base_without_a_namesake_is_refused(pair, tmp_path):
    base, tuned = pair
    (base / "model.safetensors").rename(base / "other.safetensors")
    with pytest.raises(Refusal, match="No weight file has a namesake"):
        make_diff_plan(base, tuned, Options(method="xor"))


@pytest.mark.parametrize("extra", ["training_args.bin", "legacy.bin"])
def test_bin_files_that_are_no_checkpoints_are_restored_too(pair, tmp_path, extra):
    """Neither is a checkpoint in today's format, whether or not the base has a file of that name."""
    base, tuned = pair
    old = {"w": plain.torch.ones(3)}
    if extra == "legacy.bin":
        plain.torch.save(old, base / extra, _use_new_zipfile_serialization=False)
    plain.torch.save(old, tuned / extra, _use_new_zipfile_serialization=False)
    for folder in (base, tuned):
        for name in ("model.safetensors",):
            (folder / name).rename(folder / "weights.bin")
    coded = tmp_path / "diff"
    coded.mkdir()
    for path in tuned.iterdir():
        mask = (base / path.name).read_bytes() if (base / path.name).exists() else b""
        data = path.read_bytes()
        (coded / path.name).write_bytes(exclusive_or(data, mask) if path.suffix == ".bin" else data)
    execute(make_plan(base, coded, Options(method="xor")), tmp_path / "out")
    assert (tmp_path / "out" / extra).read_bytes() == (tuned / extra).read_bytes()
