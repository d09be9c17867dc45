"""The same bytes from every device. The `gpu` tests need nothing but torch, numpy, safetensors and pytest."""

import pytest

from tests.model_ops.recovery import plain

torch = plain.torch

from model_ops.recovery.blocks import cut  # noqa: E402
from model_ops.recovery.choices import choose_device  # noqa: E402
from model_ops.recovery.combine import Arithmetic, Combiner, Slot  # noqa: E402
from model_ops.recovery.dtypes import ITEM_SIZE  # noqa: E402
from model_ops.recovery.options import Options  # noqa: E402
from model_ops.recovery.plan import make_plan  # noqa: E402
from model_ops.recovery.run import execute  # noqa: E402

SIZES = {"vocab": 32000, "hidden": 96, "layers": 3}
OPTIONS = [
    {}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"resize_policy": "zero"},
    {"compat": "fastchat", "resize_policy": "mean"},
]  # fmt: skip


def combined(plan, *, staged):
    """Every block of the first shard from made-up inputs and means, and the counts."""
    shard = plan.shards[0]
    blocks = cut(shard, ITEM_SIZE[plan.dtype], block_size=1 << 20)
    size = max(block.input_size for block in blocks)
    means = {
        placed.task.name: (torch.linspace(-1, 1, 96),)
        for placed in shard.tensors
        if placed.task.fill == "mean"
    }
    rules = Arithmetic(1, plan.compat == "fastchat", plan.dtype, True, means)
    combiner, slot = Combiner(rules, "cpu", 1 << 20, size, staged=staged), Slot(1 << 20, size, pinned=False)
    counts, result = {}, []
    for number, block in enumerate(blocks):
        slot.inputs.copy_(
            torch.arange(size, dtype=torch.int64).mul(number + 31).remainder(120).to(torch.uint8)
        )
        combiner.combine(slot, block, counts)
        result.append(bytes(slot.out_view[: block.size]))
    return result, counts


@pytest.mark.parametrize("options", OPTIONS)
def test_blocks_staged_on_a_device_equal_those_made_in_place(tmp_path, options):
    plan = make_plan(*plain.write_pair(tmp_path, **SIZES), Options(**options))
    assert combined(plan, staged=True) == combined(plan, staged=False)


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:7"])
def test_device_that_is_not_there_falls_back_to_the_cpu(device):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert choose_device(device) == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", OPTIONS)
def test_files_made_on_cuda_equal_those_made_on_the_cpu(tmp_path, options):
    pair = plain.write_pair(tmp_path, **SIZES)
    results = []
    for device in ("cpu", "cuda"):
        result = execute(make_plan(*pair, Options(**options)), tmp_path / device, device=device)
        results.append(plain.files_of(tmp_path / device))
        assert result.device.startswith(device)
    assert results[0] == results[1]
