"""Results on CUDA are byte for byte those of the CPU, also with several devices and with little memory.

Needs only torch, numpy, safetensors and pytest.
"""

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")

from model_ops.recovery.errors import Refusal  # noqa: E402
from model_ops.recovery.execution.device import Cpu, Cuda  # noqa: E402
from model_ops.recovery.execution.device_pool import choose_devices  # noqa: E402
from model_ops.recovery.execution.run import execute  # noqa: E402
from model_ops.recovery.planning.memory import LARGE, PLAIN  # noqa: E402
from model_ops.recovery.planning.planner import make_plan  # noqa: E402
from tests.model_ops.recovery import cases, plain  # noqa: E402
from tests.model_ops.recovery.execution.test_device_pool import SMALL, made  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def executed(plan, folder, device, **work):
    """Run a plan and return (file name -> bytes, the result)."""
    result = execute(plan, folder, device=device, non_finite="report", **work)
    return plain.files_of(folder), result


@pytest.mark.parametrize("mix", cases.MIXES, ids="-".join)
@pytest.mark.parametrize("case", cases.CASES)
def test_folder_made_on_cuda_equals_that_made_on_the_cpu(tmp_path, case, mix):
    plan = cases.plan_of(case, tmp_path, *mix)
    files, result = executed(plan, tmp_path / "cuda", "cuda:0")
    assert result.device == "cuda:0"
    assert files == executed(plan, tmp_path / "cpu", "cpu")[0]


@pytest.mark.parametrize("case", cases.CASES)
def test_shards_of_many_blocks_made_on_cuda_equal_those_made_on_the_cpu(tmp_path, case):
    plan = cases.plan_of(case, tmp_path)
    assert (
        made(plan, tmp_path / "cuda", Cuda(0))[:2] == made(plan, tmp_path / "cpu", Cpu(), buffers=SMALL)[:2]
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a pair and its plan: two shards of 100 MB with a grown embedding larger than any block."""
    pair = plain.write_pair(tmp_path_factory.mktemp("large"), vocab=24000, hidden=1024)
    return pair, make_plan(*pair, plain.Options(max_shard_size="100MB"))


@pytest.mark.parametrize("buffers", [*LARGE, PLAIN])
def test_large_tensors_made_on_cuda_equal_those_made_on_the_cpu(tmp_path, large, buffers):
    files, records, _ = made(large[1], tmp_path / "cuda", Cuda(0), buffers=buffers)
    assert (files, records) == made(large[1], tmp_path / "cpu", Cpu())[:2]


def test_subnormal_values_are_kept_on_cuda(tmp_path):
    smallest = {
        dtype: torch.arange(1, 2049, dtype=torch.int16).view(dtype)
        for dtype in (torch.float16, torch.bfloat16)
    }
    state = {"model.layers.0.bias": smallest[torch.float16], "model.norm.weight": smallest[torch.bfloat16]}
    first = {name: values.float() * 0.75 for name, values in state.items()}
    pair = plain.write_state(tmp_path / "base", state), plain.write_state(tmp_path / "diff", first)
    for dtype in ("float32", "float16", "bfloat16"):
        plan = make_plan(*pair, plain.Options(dtype=dtype))
        assert (
            executed(plan, tmp_path / f"cuda-{dtype}", "cuda:0")[0]
            == executed(plan, tmp_path / f"cpu-{dtype}", "cpu")[0]
        )


def test_host_buffers_are_page_locked_while_they_are_used():
    with Cuda(0).host_memory(1 << 20) as memory:
        assert memory.is_pinned()
        assert memory.data_ptr() % 4096 == 0
        assert memory[4096:8192].is_pinned()


@pytest.mark.parametrize(
    ("fraction", "device"),
    [(1.0, "cuda:0"), (0.0, "cuda:0 then cpu (out of GPU memory)")],
)
def test_gpu_memory_that_is_short_falls_back_to_the_cpu_and_says_so(tmp_path, large, fraction, device):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction, 0)
    try:
        files, result = executed(large[1], tmp_path / "cuda", "cuda:0", jobs=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert result.device == device
    assert files == executed(large[1], tmp_path / "cpu", "cpu")[0]


def test_gpu_memory_for_smaller_blocks_alone_takes_them_and_says_so(tmp_path, large):
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((256 << 20) / total, 0)
    try:
        files, _, devices = made(large[1], tmp_path / "cuda", Cuda(0), buffers=LARGE[0])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert set(devices) == {"cuda:0 in smaller blocks (out of GPU memory)"}
    assert files == made(large[1], tmp_path / "cpu", Cpu())[0]


@TWO
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_several_devices_take_different_shards(tmp_path, large, wanted):
    files, result = executed(large[1], tmp_path / "cuda", wanted)
    assert result.device.split(", ")[:2] == ["cuda:0", "cuda:1"]
    assert files == executed(large[1], tmp_path / "cpu", "cpu")[0]


@TWO
def test_device_that_was_named_is_the_only_one_used(tmp_path, large):
    assert executed(large[1], tmp_path / "cuda", "cuda:1")[1].device == "cuda:1"


def test_device_beyond_the_last_is_refused():
    with pytest.raises(Refusal, match=r"cuda:999 cannot be used: torch finds \d+ CUDA device"):
        choose_devices("cuda:999")
