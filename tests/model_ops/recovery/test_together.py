"""Small tensors give the same files and records, whether made together or one by one."""

import json

import pytest

from model_ops.recovery.execution.device import Cpu
from model_ops.recovery.planning.blocks import cut
from model_ops.recovery.planning.memory import Buffers
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import plain
from tests.model_ops.recovery.execution.test_device_pool import LateDevice, made

torch = plain.torch

# Lengths of nothing, about one value, a block of 8192 bytes, and a part of 256 Ki values.
LENGTHS = [1, 3, 0, 64, 2047, 2048, 2049, 5, 5000, 7, 300_000, 2, 262_144, 9]
SHAPES = {f"model.layers.{n // 4}.part{n % 4}.bias": (LENGTHS[n % len(LENGTHS)],) for n in range(60)}
DTYPES = (torch.float32, torch.float32, torch.float32, torch.bfloat16, torch.bfloat16, torch.float64)
SPOILED = (float("nan"), float("inf"), float("-inf"), 65504.0, 3.4e38)


def folders(tmp_path, kind="safetensors", dtypes=DTYPES):
    states = []
    for seed in (1, 2):
        state = plain.random_state(seed, SHAPES, dtypes)
        for number, values in enumerate(state.values()):
            if number % 7 == seed and values.numel():
                values[values.numel() // 2] = SPOILED[number % len(SPOILED)]
        states.append(state)
    return [
        plain.write_state(tmp_path / role, state, kind=kind)
        for role, state in zip(("base", "first"), states, strict=True)
    ]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("buffers", [Buffers(), Buffers(block_size=8192, slots=4)])
@pytest.mark.parametrize(
    ("plan", "options"),
    [
        (make_plan, {}), (make_plan, {"dtype": "bfloat16"}), (make_plan, {"compat": "fastchat"}),
        (make_diff_plan, {}), (make_diff_plan, {"dtype": "float16"}),
    ],
)  # fmt: skip
def test_tensors_made_together_equal_those_made_one_by_one(tmp_path, plan, options, kind, buffers):
    planned = plan(*folders(tmp_path, kind), Options(**options))
    together = made(planned, tmp_path / "together", Cpu(), buffers=Buffers())
    one_by_one = made(planned, tmp_path / "single", LateDevice(), buffers=buffers)
    assert together[:2] == one_by_one[:2]
    seen = together[1][0]["tensors"]
    assert seen.keys() == {name for name, (length,) in SHAPES.items() if length}
    assert 0 < sum(each["non_finite"] for each in seen.values()) < 30


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float16,), (torch.bfloat16,)])
def test_least_and_greatest_of_each_tensor_are_its_own(tmp_path, dtypes):
    base, first = folders(tmp_path, dtypes=dtypes)
    name = str(dtypes[0]).removeprefix("torch.")
    plain.recover(base, first, tmp_path / "out", dtype=name, non_finite="report")
    tensors = json.loads((tmp_path / "out/weights.manifest.json").read_text())["tensors"]
    for name, values in plain.state_of(tmp_path / "out").items():
        finite = values[torch.isfinite(values)].float()
        low, high = torch.aminmax(finite) if len(finite) else (None, None)
        expected = (None, None) if low is None else (low.item() + 0.0, high.item() + 0.0)
        assert (tensors[name]["min"], tensors[name]["max"]) == expected
        assert tensors[name]["non_finite"] == len(values) - len(finite)


def test_neighbours_in_both_files_are_read_and_added_at_once(tmp_path):
    shapes = {f"model.layers.{n}.weight": (64,) for n in range(1000)}
    base, first = (
        plain.write_state(tmp_path / role, plain.random_state(seed, shapes))
        for seed, role in enumerate(("base", "first"))
    )
    (block,) = cut(make_plan(base, first).shards[0], 4, together=True)
    assert (len(block.pieces), len(list(block.spans()))) == (1, 2)
    assert len(cut(make_plan(base, first).shards[0], 4)[0].pieces) == 1000
