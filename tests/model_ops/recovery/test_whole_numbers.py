"""Saved counters and positions are added as integers, and laid out as the safetensors library does."""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.options import Options
from tests.model_ops.recovery import plain

torch = plain.torch
from safetensors.torch import save_file  # noqa: E402 - plain skips this module where torch is not

COUNTER = "model.norm.num_batches_tracked"
KINDS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def state(seed, kind=torch.int64):
    values = plain.random_state(seed, {"model.a.weight": (9, 8), "model.z.weight": (3, 8)})
    numbers = torch.arange(seed, seed + 20).to(kind)
    return values | {
        COUNTER: torch.tensor(seed * 7).to(kind),
        "model.index": numbers,
        "model.empty": numbers[:0],
    }


def write(folder, seed, kind=torch.int64, **more):
    return plain.write_state(folder, state(seed, kind) | more)


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}, {"compat": "fastchat"}], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_whole_numbers_are_added_and_the_file_is_the_librarys(tmp_path, name, options):
    kind = KINDS[name]
    base, diff = write(tmp_path / "base", 1, kind), write(tmp_path / "diff", 2, kind)
    plain.recover(base, diff, tmp_path / "out", **options)
    out = getattr(torch, Options(**options).dtype_name)
    half = torch.float16 if "compat" in options else torch.float32
    expected = {
        name: value + state(1, kind)[name]
        if value.dtype == kind
        else (value.to(half) + state(1)[name].to(half)).to(out)
        for name, value in state(2, kind).items()
    }
    save_file(expected, tmp_path / "expected.safetensors", metadata=plain.METADATA)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        tmp_path / "expected.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_whole_numbers_of_a_diff_made_here_come_back(tmp_path, kind):
    base = plain.write_state(tmp_path / "base", state(1), kind=kind)
    tuned = plain.write_state(tmp_path / "tuned", state(2), kind=kind)
    made = plain.make_diff(base, tuned, tmp_path / "diff")
    assert plain.state_of(tmp_path / "diff")[COUNTER].item() == 7
    plain.recover(base, tmp_path / "diff", tmp_path / "out")
    assert plain.state_of(tmp_path / "out")[COUNTER].item() == 14
    manifest = json.loads((tmp_path / "diff/weights.manifest.json").read_text())
    assert manifest["tensors"][COUNTER] == {"rule": "add", "non_finite": 0, "min": None, "max": None}
    assert made.not_restored == manifest["round_trip"]["not_restored"]


def test_whole_numbers_of_two_dtypes_are_refused(tmp_path):
    base, diff = write(tmp_path / "base", 1, torch.int32), write(tmp_path / "diff", 2)
    with pytest.raises(Refusal) as caught:
        plain.make_plan(base, diff)
    assert str(caught.value).endswith(
        "has dtype I64; only float32, float16, bfloat16, float64, and whole numbers of one dtype, can be added."
    )


def test_masks_that_are_no_numbers_are_refused(tmp_path):
    base, diff = (
        write(tmp_path / role, n, **{"model.flags": torch.ones(3, dtype=torch.bool)})
        for n, role in enumerate("ab")
    )
    with pytest.raises(Refusal, match=r"model\.flags has dtype BOOL"):
        plain.make_plan(base, diff)


def test_whole_numbers_with_more_rows_are_refused(tmp_path):
    rows = {n: torch.arange(n * 8).view(n, 8) for n in (4, 5)}
    base = plain.write_state(tmp_path / "base", state(1) | {"model.embed_tokens.weight": rows[4]})
    diff = plain.write_state(tmp_path / "diff", state(2) | {"model.embed_tokens.weight": rows[5]})
    with pytest.raises(Refusal):
        plain.make_plan(base, diff, Options(resize_policy="zero"))
