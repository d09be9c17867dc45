"""Make one output file: read, combine, hash and write, each on its own thread, a few blocks apart.

    reader: waits for the slot to be free, then fills its inputs
    this thread: combines, then hands the slot to the hash and the writer

Each stage is one thread with a queue, so blocks pass in file order and no stage can hold a slot that an earlier
block waits for. A shard needs nothing of the other shards: it may run in another process.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from model_ops.recovery.blocks import Block, cut
from model_ops.recovery.combine import Arithmetic, Combiner, Counts, Slot
from model_ops.recovery.control import Control
from model_ops.recovery.dtypes import ITEM_SIZE
from model_ops.recovery.mean_rows import mean_row
from model_ops.recovery.memory import BLOCK_SIZE, SLOTS
from model_ops.recovery.output import Hashes, OutputFile
from model_ops.recovery.planned import Plan, ShardPlan
from model_ops.recovery.reading import Reader


def run_shard(plan: Plan, shard: ShardPlan, folder: Path, *, device: str, control: Control) -> dict[str, Any]:
    """Write `folder/shard.file`; returns its record: the manifest line and what was seen per tensor."""
    blocks = cut(shard, ITEM_SIZE[plan.dtype])
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(Reader(control)))
        arithmetic = _arithmetic(plan, shard, reader)
        output = stack.enter_context(contextlib.closing(OutputFile(folder / shard.file, shard.size)))
        pipeline = _Pipeline(plan, blocks, arithmetic, device, reader, output, control)
        hashes = pipeline.run(shard)
        output.finish()
    return {
        **hashes.line(),
        "tensors": {name: vars(seen) for name, seen in pipeline.counts.items()},
        "base_tensors": pipeline.base_digests(),
    }


def _arithmetic(plan: Plan, shard: ShardPlan, reader: Reader) -> Arithmetic:
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
        plan: Plan,
        blocks: list[Block],
        arithmetic: Arithmetic,
        device: str,
        reader: Reader,
        output: OutputFile,
        control: Control,
    ) -> None:
        input_size = max(block.input_size for block in blocks)
        self.blocks, self.reader, self.output, self.control = blocks, reader, output, control
        self.combiner = Combiner(arithmetic, device, BLOCK_SIZE, input_size)
        pinned = self.combiner.device.type == "cuda"
        count = min(SLOTS, len(blocks))
        self.slots = [Slot(BLOCK_SIZE, input_size, pinned=pinned) for _ in range(count)]
        self.in_use: list[list[Future[None]]] = [[] for _ in self.slots]
        self.counts: dict[str, Counts] = {}
        self.digests: dict[str, Any] | None = {} if plan.action == "make_diff" else None

    def run(self, shard: ShardPlan) -> Hashes:
        """Every block, in order."""
        hashes = Hashes(shard.file, shard.size)
        with _threads(3) as (reading, writing, hashing):
            fills = deque(reading.submit(self._fill, number) for number in range(len(self.slots)))
            for number, block in enumerate(self.blocks):
                fills.popleft().result()
                self.control.check()
                slot = self.slots[number % len(self.slots)]
                self._combine(slot, block)
                view = slot.out_view[: block.size]
                self.in_use[number % len(self.slots)] = [
                    writing.submit(self.output.write, view, block.offset),
                    hashing.submit(hashes.update, view),
                ]
                self.control.advance(block.size, shard.file)
                self.control.count(written=block.size)
                if number + len(self.slots) < len(self.blocks):
                    fills.append(reading.submit(self._fill, number + len(self.slots)))
            for users in self.in_use:
                _wait(users)
        return hashes

    def _fill(self, number: int) -> None:
        self.control.check()
        index = number % len(self.slots)
        _wait(self.in_use[index])
        slot = self.slots[index]
        for piece in self.blocks[number].pieces:
            for ref, offset, size, place in piece.reads():
                self.reader.read_into(ref.path, offset, slot.input_view[place : place + size])

    def _combine(self, slot: Slot, block: Block) -> None:
        if self.digests is not None:
            for piece in block.pieces:
                self._digest_base(slot, piece.reads())
        self.combiner.combine(slot, block, self.counts)

    def _digest_base(self, slot: Slot, reads: Iterator[Any]) -> None:
        """Hash what the base holds, tensor by tensor; a tied tensor, read twice, once."""
        assert self.digests is not None  # noqa: S101 - narrows for the type checker
        seen = set()
        for number, (ref, _, size, place) in enumerate(reads):
            if number and ref.name not in seen:
                seen.add(ref.name)
                entry = self.digests.setdefault(ref.name, (ref, hashlib.sha256()))
                entry[1].update(slot.input_view[place : place + size])

    def base_digests(self) -> dict[str, Any]:
        """Name -> dtype, shape and SHA-256 of each base tensor that this shard's tensors were made from."""
        return {
            name: {"dtype": ref.dtype, "shape": list(ref.shape), "sha256": digest.hexdigest()}
            for name, (ref, digest) in (self.digests or {}).items()
        }


def _wait(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[list[ThreadPoolExecutor]]:
    """Single threads with queues; on the way out, whatever is still queued is dropped."""
    pools = [ThreadPoolExecutor(1) for _ in range(count)]
    try:
        yield pools
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown(wait=True)
