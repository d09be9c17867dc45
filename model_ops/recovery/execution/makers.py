"""Make blocks: in place on the CPU, or on a device with asynchronous copies in and out.

A slot is the memory of one block in progress. The reader fills it, the maker starts and finishes it, it is
hashed and written, and only then is it filled again. Between start and finish its inputs and output belong to
the maker.

    slot.inputs --copy in--> the device's inputs --combine--> the device's output --copy out--> slot.out

Each arrow is a separate stream, so one block is copied in while another is combined and a third is copied
out. The only wait for a slot is in `finish`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from model_ops.recovery.execution.combine import Arithmetic, Combiner, Counts
from model_ops.recovery.execution.device import Cpu, Device, Event
from model_ops.recovery.formats.torch_dtypes import bytes_of
from model_ops.recovery.planning.blocks import Block

_ALIGN = 64
_ITEM = 4  # bytes per float32


class Slot:
    """Buffers for one block. After the block's bytes, `out` has room for its statistics."""

    def __init__(self, number: int, out: torch.Tensor, inputs: torch.Tensor) -> None:
        self.number, self.out, self.inputs = number, out, inputs
        self.out_view, self.input_view = bytes_of(out), bytes_of(inputs)
        self.seen: list[torch.Tensor] = []


@dataclass
class _Twin:
    """A slot's counterpart in the device's memory.

    `left` is the event after which the slot has all its results.
    """

    inputs: torch.Tensor
    out: torch.Tensor
    left: Event


class InPlace:
    """A maker for the CPU: blocks are made where the inputs are, in parts that fit the cache.

    A started block is already finished.
    """

    in_flight = 1

    def __init__(self, combiner: Combiner, slots: list[Slot]) -> None:
        self.slots = slots
        self.counts: dict[str, Counts] = {}
        self._combiner = combiner

    def start(self, slot: Slot, block: Block) -> None:
        """Fill `slot.out` with the block's bytes from `slot.inputs`."""
        slot.out_view[: len(block.header)] = block.header
        slot.seen = self._combiner.combine(block, slot.inputs, slot.out)

    def finish(self, slot: Slot, block: Block) -> None:
        """Record the statistics of the block, which is already complete."""
        seen = torch.cat(slot.seen).tolist() if slot.seen else []
        self._combiner.tally(block, seen, slot.out, self.counts)


class Staged:
    """A maker for a device.

    A block with a value that is not finite is made again in place: devices differ in the bits of a NaN, and
    counting needs the finished block.
    """

    in_flight = 2

    def __init__(self, combiner: Combiner, in_place: InPlace, device: Device, seen_at: int) -> None:
        self.slots, self.counts = in_place.slots, in_place.counts
        self._combiner, self._in_place, self._seen_at = combiner, in_place, seen_at
        self._copy_in, self._work, self._copy_out = (device.stream() for _ in range(3))
        nothing = self._copy_out.record()
        self._twins = [
            _Twin(device.memory(slot.inputs.numel()), device.memory(slot.out.numel()), nothing)
            for slot in self.slots
        ]

    def start(self, slot: Slot, block: Block) -> None:
        """Queue the copies of the block to the device and back, and its computation."""
        twin = self._twins[slot.number]
        self._copy_in.submit(partial(_copy_range, slot.inputs, twin.inputs, 0, block.input_size))
        self._work.wait(self._copy_in.record())
        self._work.submit(partial(self._combine_there, twin, block))
        self._copy_out.wait(self._work.record())
        self._copy_out.submit(partial(_copy_range, twin.out, slot.out, len(block.header), block.size))
        self._copy_out.submit(partial(_copy_range, twin.out, slot.out, self._seen_at, self._seen_end(block)))
        twin.left = self._copy_out.record()

    def finish(self, slot: Slot, block: Block) -> None:
        """Wait for the block and record its statistics."""
        self._twins[slot.number].left.synchronize()
        slot.out_view[: len(block.header)] = block.header
        seen = self._seen_numbers(slot.out, block).tolist()
        if self._combiner.is_finite(block, seen):
            self._combiner.tally(block, seen, slot.out, self.counts)
        else:
            self._in_place.start(slot, block)
            self._in_place.finish(slot, block)

    def close(self) -> None:
        """Wait for everything that was started, because the buffers are about to be freed."""
        for stream in (self._copy_in, self._work, self._copy_out):
            stream.record().synchronize()

    def _combine_there(self, twin: _Twin, block: Block) -> None:
        seen = self._combiner.combine(block, twin.inputs, twin.out)
        if seen:
            self._seen_numbers(twin.out, block).copy_(torch.cat(seen))

    def _seen_numbers(self, out: torch.Tensor, block: Block) -> torch.Tensor:
        return out[self._seen_at : self._seen_end(block)].view(torch.float32)

    def _seen_end(self, block: Block) -> int:
        return self._seen_at + self._combiner.seen_in(block) * _ITEM


@contextlib.contextmanager
def open_maker(
    arithmetic: Arithmetic, blocks: list[Block], device: Device, count: int
) -> Iterator[InPlace | Staged]:
    """Yield a maker for these blocks with `count` slots. On exit, nothing is in progress any more."""
    block_size = max((block.size for block in blocks), default=1)
    combiner = Combiner(arithmetic, device.torch_device, min(device.part, block_size))
    seen_at = -(-block_size // _ALIGN) * _ALIGN
    out_size = seen_at + max(map(combiner.seen_in, blocks), default=0) * _ITEM
    input_size = max((block.input_size for block in blocks), default=0) or 1
    with contextlib.ExitStack() as stack:
        buffers = (stack.enter_context(device.host_memory(size)) for size in (out_size, input_size) * count)
        slots = [Slot(number, next(buffers), next(buffers)) for number in range(count)]
        if not device.staged:
            yield InPlace(combiner, slots)
            return
        in_place = InPlace(Combiner(arithmetic, torch.device("cpu"), Cpu.part), slots)
        staged = Staged(combiner, in_place, device, seen_at)
        stack.callback(staged.close)
        yield staged


def _copy_range(source: torch.Tensor, target: torch.Tensor, start: int, stop: int) -> None:
    """Copy a range, without waiting if the host's side is page-locked."""
    target[start:stop].copy_(source[start:stop], non_blocking=True)
