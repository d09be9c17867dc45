"""Every device gives the same bytes; what happens with several devices, a missing one and a full one.

Needs only torch, numpy, safetensors and pytest.
"""

import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")

from model_ops.recovery.errors import Failure, Refusal  # noqa: E402
from model_ops.recovery.execution.device import Cpu  # noqa: E402
from model_ops.recovery.execution.device_pool import Devices, make_shard  # noqa: E402
from model_ops.recovery.execution.run import execute  # noqa: E402
from model_ops.recovery.planning.memory import PLAIN, Buffers  # noqa: E402
from model_ops.recovery.planning.planner import make_plan  # noqa: E402
from model_ops.recovery.system.control import Control  # noqa: E402
from tests.model_ops.recovery import cases, plain  # noqa: E402

SMALL = Buffers(block_size=8192, slots=4)
WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


class LateStream:
    """A stream that works only when waited for, and only as much as it must: a missing event shows."""

    def __init__(self):
        self.work, self.done = deque(), 0

    def submit(self, work):
        self.work.append(work)

    def wait(self, event):
        self.work.append(event.synchronize)

    def record(self):
        return LateEvent(self, self.done + len(self.work))


class LateEvent:
    def __init__(self, stream, number):
        self.stream, self.number = stream, number

    def synchronize(self):
        while self.stream.done < self.number:
            self.stream.done += 1
            self.stream.work.popleft()()


class LateDevice(Cpu):
    """A staged device that is as late as allowed, to reveal missing events.

    Its memory holds old values, and `room` bytes of it are free.
    """

    def __init__(self, name="late", room=1 << 40, part=700):
        super().__init__(staged=True)
        self.name, self.room, self.part = name, room, part

    def memory(self, size):
        if size > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        memory = super().memory(size).fill_(0x3C)
        self.give(-size)
        weakref.finalize(memory, self.give, size)
        return memory

    def give(self, size):
        self.room += size

    def stream(self):
        return LateStream()


class BrokenDevice(Cpu):
    """A device that does some work, and then fails with torch's own error."""

    name = "broken"

    def __init__(self, error, works):
        super().__init__(staged=True)
        self.error, self.works = error, works

    def stream(self):
        stream = LateStream()
        stream.submit = lambda work: stream.work.append(lambda: self.do(work))
        return stream

    def do(self, work):
        self.works -= 1
        if self.works < 0:
            raise self.error
        work()


def made(plan, folder, device, *, buffers=SMALL, control=None):
    """Return (file name -> bytes, records without their device, devices)."""
    folder.mkdir()
    control = control or Control()
    records = [
        make_shard(plan, shard, folder, device=device, buffers=buffers, control=control)
        for shard in plan.shards
    ]
    return plain.files_of(folder), records, [record.pop("device") for record in records]


@pytest.mark.parametrize("case", cases.CASES)
def test_shards_made_through_a_device_equal_those_made_in_place(tmp_path, case):
    plan = cases.plan_of(case, tmp_path)
    files, records, devices = made(plan, tmp_path / "device", LateDevice())
    assert set(devices) == {"late"}
    assert (files, records) == made(plan, tmp_path / "cpu", Cpu())[:2]


@pytest.mark.parametrize("mix", cases.MIXES, ids="-".join)
@pytest.mark.parametrize("case", ["tied_grown", "fastchat_grown", "not_finite_bfloat16", "diff"])
def test_every_mix_of_dtypes_made_through_a_device_equals_that_made_in_place(tmp_path, case, mix):
    plan = cases.plan_of(case, tmp_path, *mix)
    assert made(plan, tmp_path / "device", LateDevice())[:2] == made(plan, tmp_path / "cpu", Cpu())[:2]


def test_sum_of_values_is_taken_on_the_device_too(tmp_path):
    pair = plain.write_pair(tmp_path, vocab=300, hidden=64)
    plan = make_plan(*pair, plain.Options(expected_sum=0.0, sum_tolerance=1e9))
    sums = [
        {name: seen["total"] for record in made(plan, tmp_path / device.name, device)[1]
         for name, seen in record["tensors"].items()}
        for device in (LateDevice(), Cpu())
    ]  # fmt: skip
    assert len(sums[1]) == 11
    assert sums[0] == pytest.approx(sums[1], rel=1e-5, abs=1e-3)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a plan with one shard that is larger than one plain block."""
    return make_plan(*plain.write_pair(tmp_path_factory.mktemp("large"), vocab=5000, hidden=512, layers=1))


@pytest.mark.parametrize(
    ("room", "device"),
    [
        (1 << 30, "late"),
        (70 << 20, "late in smaller blocks (out of GPU memory)"),
        (1 << 20, "late then cpu (out of GPU memory)"),
    ],
)
def test_device_out_of_memory_falls_back_to_smaller_blocks_then_to_the_cpu(tmp_path, large, room, device):
    files, records, devices = made(
        large, tmp_path / "device", LateDevice(room=room, part=1 << 18), buffers=Buffers(2 * PLAIN.block_size)
    )
    assert devices == [device]
    assert (files, records) == made(large, tmp_path / "cpu", Cpu())[:2]


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: out of memory\n")]
)
def test_device_out_of_memory_under_way_counts_no_byte_twice(tmp_path, error):
    plan, control = cases.plan_of("mean", tmp_path), Control()
    files, records, devices = made(plan, tmp_path / "device", BrokenDevice(error, works=20), control=control)
    assert devices == ["broken then cpu (out of GPU memory)"]
    assert control.bytes_done == plan.bytes_of_weights
    assert (files, records) == made(plan, tmp_path / "cpu", Cpu())[:2]


def test_device_that_fails_is_one_sentence(tmp_path):
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with this and that.")
    with pytest.raises(
        Failure, match=r"^The device broken failed \(CUDA error: an illegal .* encountered\); run .*\.$"
    ):
        made(cases.plan_of("mean", tmp_path), tmp_path / "device", BrokenDevice(error, works=20))


def test_shards_are_dealt_to_devices_in_turn_and_to_those_that_are_free(tmp_path):
    plan, control = cases.plan_of("shards", tmp_path), Control()
    (tmp_path / "out").mkdir()
    devices = Devices(lambda: [LateDevice("first"), LateDevice("second")])
    records = [devices.make(plan, shard, tmp_path / "out", control) for shard in plan.shards[:3]]
    assert [record["device"] for record in records] == ["first", "second", "first"]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(devices.make, plan, shard, tmp_path / "out", control) for shard in plan.shards]
        assert {future.result()["device"] for future in futures} == {"first", "second"}
    assert plain.files_of(tmp_path / "out") == made(plan, tmp_path / "cpu", Cpu())[0]


@WITHOUT_CUDA
def test_auto_without_cuda_is_the_cpu(tmp_path):
    assert execute(cases.plan_of("tiny", tmp_path), tmp_path / "out", device="auto").device == "cpu"


@WITHOUT_CUDA
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_device_that_was_named_and_is_not_there_is_refused(tmp_path, device):
    plan = cases.plan_of("tiny", tmp_path)
    with pytest.raises(Refusal, match=f"The device {device} cannot be used: .* CUDA device"):
        execute(plan, tmp_path / "out", device=device)
    assert {path.name for path in tmp_path.iterdir()} == {"base", "first"}


def test_result_notes_that_gpu_memory_was_short(tmp_path):
    result = execute(cases.plan_of("tiny", tmp_path), tmp_path / "out", device="cpu")
    assert result.notes == []
    short = replace(result, device="cuda:0 then cpu (out of GPU memory), cuda:1")
    assert short.notes == [f"a GPU had too little memory left, so the weights were made on {short.device}."]
