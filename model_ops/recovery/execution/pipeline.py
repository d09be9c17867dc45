"""Make one output file: read, combine, hash and write, each on its own thread, a few blocks apart.

    reader: waits for the slot to be free, then fills its inputs
    this thread: starts the block, and passes finished ones to the hash and the writer

Each stage is one thread with a queue, so blocks pass in file order and no stage can hold a slot that an earlier
block waits for. A shard does not depend on the others, so another process may make it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from model_ops.recovery.execution.checksums import EntryChecks
from model_ops.recovery.execution.combine import Arithmetic, records_of
from model_ops.recovery.execution.device import Cpu, Device
from model_ops.recovery.execution.makers import InPlace, Slot, Staged, open_maker
from model_ops.recovery.execution.mean_rows import mean_row
from model_ops.recovery.formats.dtypes import ITEM_SIZE
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.blocks import Block, cut
from model_ops.recovery.planning.memory import PLAIN, Buffers
from model_ops.recovery.planning.plan import Plan, ShardPlan
from model_ops.recovery.system.control import Control
from model_ops.recovery.workdir.output import Hashes, OutputFile


def run_shard(
    plan: Plan,
    shard: ShardPlan,
    folder: Path,
    *,
    device: Device | None = None,
    buffers: Buffers = PLAIN,
    control: Control,
) -> dict[str, Any]:
    """Write `folder/shard.file` and return its record: the manifest line and each tensor's statistics.

    `device` None means the CPU. Errors of a failing device are raised as they are; `device_pool` handles
    them.
    """
    device = device or Cpu()
    together = (
        not device.staged and plan.expected is None
    )  # a device combines one tensor at a time, and so does a run with a sum
    blocks = cut(shard, ITEM_SIZE[plan.dtype], buffers.block_size, together=together)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(Reader(control)))
        arithmetic = _prepare_arithmetic(plan, shard, reader)
        output = stack.enter_context(contextlib.closing(OutputFile(folder / shard.file, shard.size)))
        count = min(buffers.slots, len(blocks))
        maker = stack.enter_context(open_maker(arithmetic, blocks, device, count))
        digests = _BaseDigests() if plan.action == "make_diff" else None
        stores_checksums = any(ref.entry for task in shard.tasks for ref in (task.first, *task.terms))
        checks = EntryChecks(plan) if stores_checksums else None
        hashes = _Pipeline(shard, blocks, maker, digests, checks, reader, output, control).run()
        output.finish()
    return {
        **hashes.line(),
        "tensors": records_of(maker.counts, plan.dtype),
        "base_tensors": digests.lines() if digests else {},
        "open_entries": checks.open_entries() if checks else {},
    }


def _prepare_arithmetic(plan: Plan, shard: ShardPlan, reader: Reader) -> Arithmetic:
    half_steps = plan.compat == "fastchat"
    means: dict[str, Any] = {}
    for placed in shard.tensors:
        task = placed.task
        if task.fill == "mean":
            known = {ref: mean_row(ref, reader, half_steps=half_steps) for ref in set(task.terms)}
            means[task.name] = tuple(known[ref] for ref in task.terms)
    check, add_up = plan.action == "make_diff", plan.expected is not None
    return Arithmetic(plan.sign, half_steps, plan.dtype, check, means, add_up)


class _Pipeline:
    def __init__(
        self,
        shard: ShardPlan,
        blocks: list[Block],
        maker: InPlace | Staged,
        digests: _BaseDigests | None,
        checks: EntryChecks | None,
        reader: Reader,
        output: OutputFile,
        control: Control,
    ) -> None:
        self.file, self.hashes = shard.file, Hashes(shard.file, shard.size)
        self.blocks, self.maker, self.slots, self.digests = blocks, maker, maker.slots, digests
        self.checks = checks
        self.reader, self.output, self.control = reader, output, control
        self.in_use: list[list[Future[None]]] = [[] for _ in self.slots]
        self.in_flight = min(maker.in_flight, len(self.slots))
        self.advanced = 0

    def run(self) -> Hashes:
        """Make every block in order and return the file's hashes.

        A second call after a failure starts from the beginning.
        """
        try:
            with _single_threads(3) as threads:
                self._run_stages(*threads)
        except BaseException:
            self.control.advance(-self.advanced, self.file)
            raise
        return self.hashes

    def _run_stages(
        self, reading: ThreadPoolExecutor, writing: ThreadPoolExecutor, hashing: ThreadPoolExecutor
    ) -> None:
        fills = deque(reading.submit(self._fill_slot, number) for number in range(len(self.slots)))
        started: deque[int] = deque()

        def hand_over() -> None:
            number = started.popleft()
            index, block = number % len(self.slots), self.blocks[number]
            self.maker.finish(self.slots[index], block)
            view = self.slots[index].out_view[: block.size]
            self.in_use[index] = [
                writing.submit(self.output.write, view, block.offset),
                hashing.submit(self.hashes.update, view),
            ]
            self.advanced += block.size
            self.control.advance(block.size, self.file)
            self.control.count(written=block.size)
            if number + len(self.slots) < len(self.blocks):
                fills.append(reading.submit(self._fill_slot, number + len(self.slots)))

        for number in range(len(self.blocks)):
            fills.popleft().result()
            self.control.check()
            slot, block = self.slots[number % len(self.slots)], self.blocks[number]
            if self.digests is not None:
                self.digests.update(slot, block)
            self.maker.start(slot, block)
            started.append(number)
            if len(started) == self.in_flight:
                hand_over()
        while started:
            hand_over()
        for users in self.in_use:
            _wait_for(users)

    def _fill_slot(self, number: int) -> None:
        self.control.check()
        index = number % len(self.slots)
        _wait_for(self.in_use[index])
        slot = self.slots[index]
        for ref, offset, size, place in self.blocks[number].spans():
            self.reader.read_tensor(ref, offset, slot.input_view[place : place + size])
        if self.checks is not None:
            self.checks.update(self.blocks[number], slot.input_view)


class _BaseDigests:
    """Digests of the base's tensors, hashed one after another, for a diff's manifest."""

    def __init__(self) -> None:
        self._hashes: dict[str, tuple[TensorRef, Any]] = {}

    def update(self, slot: Slot, block: Block) -> None:
        """Add a block's part of the base; a tied tensor, which is read twice, counts once."""
        for piece in block.pieces:
            seen = set()
            for number in range(1, len(piece.inputs)):
                for ref, _, size, place in piece.reads_of(number):
                    if ref not in seen:
                        seen.add(ref)
                        digest = self._hashes.setdefault(ref.name, (ref, hashlib.sha256()))[1]
                        digest.update(slot.input_view[place : place + size])

    def lines(self) -> dict[str, Any]:
        """Return name -> dtype, shape and SHA-256 of each base tensor that this shard was made from."""
        return {
            name: {"dtype": ref.dtype, "shape": list(ref.shape), "sha256": digest.hexdigest()}
            for name, (ref, digest) in self._hashes.items()
        }


def _wait_for(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


@contextlib.contextmanager
def _single_threads(count: int) -> Iterator[list[ThreadPoolExecutor]]:
    """Yield single threads with queues. On exit, everything still queued is dropped."""
    pools = [ThreadPoolExecutor(1) for _ in range(count)]
    try:
        yield pools
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown(wait=True)
