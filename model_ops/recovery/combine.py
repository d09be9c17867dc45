"""The arithmetic of one block: first plus (or minus) its terms in float32, cast once, on CPU or CUDA.

On the CPU the values are taken in place from the slot's buffers, in parts that stay in the cache. On CUDA the
slot's inputs go up in one copy, the same code runs on the device's copies, and the result comes down in one.
Element-wise IEEE operations give the same bits on both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from model_ops.recovery.blocks import Block, Piece
from model_ops.recovery.torch_dtypes import BITS, LARGEST, TORCH, bytes_of

_PART = 256 * 1024  # elements: 1 MiB of float32, stays in the second-level cache


class Slot:
    """Buffers for one block on its way through the pipeline, aligned for O_DIRECT, allocated once."""

    def __init__(self, block_size: int, input_size: int, *, pinned: bool) -> None:
        self.out = _aligned_buffer(block_size, pinned)
        self.inputs = _aligned_buffer(max(input_size, 1), pinned)
        self.out_view = bytes_of(self.out)
        self.input_view = bytes_of(self.inputs)


def _aligned_buffer(size: int, pinned: bool) -> torch.Tensor:
    page = 4096
    buffer = torch.empty(size + page, dtype=torch.uint8, pin_memory=pinned)
    return buffer[-buffer.data_ptr() % page :][:size]


@dataclass
class Counts:
    """Seen in one tensor: values not finite in the result, and values a round trip does not restore; `total` is
    the sum of the result before its cast, where that is asked for.
    """

    non_finite: int = 0
    not_restored: int = 0
    total: float = 0.0


@dataclass(frozen=True)
class Arithmetic:
    """`sign` +1 adds, -1 subtracts. `half_steps`: inputs and sum pass through float16, as in FastChat."""

    sign: int
    half_steps: bool
    out_dtype: str
    check_round_trip: bool = False
    means: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    add_up: bool = False


class Combiner:
    """Combines blocks on one device. Not thread-safe: one per shard in work.

    `staged` copies the slot to the device and back, as every device but the CPU needs; there it serves tests.
    """

    def __init__(
        self,
        arithmetic: Arithmetic,
        device: str,
        block_size: int,
        input_size: int,
        *,
        staged: bool | None = None,
    ) -> None:
        self.arithmetic, self.device = arithmetic, torch.device(device)
        self.staged = self.device.type != "cpu" if staged is None else staged
        item = TORCH[arithmetic.out_dtype].itemsize
        self.part = block_size // item if self.staged else _PART
        self.scratch = [torch.empty(self.part, device=self.device) for _ in range(3)]
        self.means = {
            name: tuple(row.to(self.device) for row in rows) for name, rows in arithmetic.means.items()
        }
        if self.staged:
            self.inputs = torch.empty(input_size, dtype=torch.uint8, device=self.device)
            self.out = torch.empty(block_size, dtype=torch.uint8, device=self.device)

    def combine(self, slot: Slot, block: Block, counts: dict[str, Counts]) -> None:
        """Fill the slot's output with the block's bytes from the slot's inputs."""
        header = len(block.header)
        slot.out_view[:header] = block.header
        inputs, out = slot.inputs, slot.out
        if self.staged:
            inputs, out = self.inputs, self.out
            inputs[: block.input_size].copy_(slot.inputs[: block.input_size], non_blocking=True)
        for piece in block.pieces:
            seen = counts.setdefault(piece.task.name, Counts())
            for start in range(0, piece.count, self.part):
                self._part(piece, start, min(self.part, piece.count - start), inputs, out, seen)
        if self.staged:
            slot.out[header : block.size].copy_(out[header : block.size], non_blocking=True)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

    def _part(
        self, piece: Piece, start: int, count: int, inputs: torch.Tensor, out: torch.Tensor, seen: Counts
    ) -> None:
        """Elements `start` to `start + count` of the piece."""
        rules = self.arithmetic
        task = piece.task
        first = _values(inputs, piece.inputs[0], start, count, task.first.dtype)
        target = _values(out, piece.position, start, count, rules.out_dtype)
        if rules.out_dtype == "U8":
            _exclusive_or(first, piece, start, inputs, target)
            return
        total = target if rules.out_dtype == "F32" and not rules.half_steps else self.scratch[2][:count]
        self._sum(first, piece, start, inputs, total, rules.sign)
        if total is not target:
            target.copy_(total)
        seen.non_finite += _count_non_finite(total, target, rules.out_dtype)
        if rules.add_up:
            seen.total += float(total.sum())
        if rules.check_round_trip:
            seen.not_restored += self._count_not_restored(first, target, piece, start, inputs)

    def _sum(
        self,
        first: torch.Tensor,
        piece: Piece,
        start: int,
        inputs: torch.Tensor,
        total: torch.Tensor,
        sign: int,
    ) -> None:
        """total = first + sign * term for each term in turn, each sum rounded as the peer rounds it."""
        so_far = self._as_float(first, self.scratch[0])
        if not piece.task.terms:
            total.copy_(so_far)
        for number in range(len(piece.task.terms)):
            term = self._term(number, piece, start, first.numel(), inputs)
            torch.add(so_far, term, alpha=sign, out=total)
            if self.arithmetic.half_steps:
                total.copy_(total.half())
            so_far = total

    def _as_float(self, values: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        if self.arithmetic.half_steps and values.dtype is not torch.float16:
            values = values.half()
        if values.dtype is torch.float32:
            return values
        return scratch[: values.numel()].copy_(values)

    def _term(self, number: int, piece: Piece, start: int, count: int, inputs: torch.Tensor) -> torch.Tensor:
        """The base's values as float32: its own, then those of the rows it does not have."""
        existing = max(0, min(count, piece.from_base - start))
        dtype = piece.task.terms[number].dtype
        own = _values(inputs, piece.inputs[number + 1], start, existing, dtype)
        scratch = self.scratch[1]
        values = self._as_float(own, scratch)
        if existing == count:
            return values
        scratch[:existing] = values
        scratch[existing:count] = self._new_rows(number, piece, start + existing, count - existing)
        return scratch[:count]

    def _new_rows(self, number: int, piece: Piece, start: int, count: int) -> torch.Tensor | float:
        if piece.task.fill == "zero":
            return 0.0
        mean = self.means[piece.task.name][number]
        begin = piece.start + start
        columns = torch.arange(begin, begin + count, device=self.device) % mean.numel()
        return mean[columns]

    def _count_not_restored(
        self, first: torch.Tensor, stored: torch.Tensor, piece: Piece, start: int, inputs: torch.Tensor
    ) -> int:
        """How many values adding back the stored difference does not give again, bit for bit."""
        again = torch.empty(first.numel(), device=self.device)
        self._sum(stored, piece, start, inputs, again, +1)
        bits = BITS[piece.task.first.dtype]
        return int(again.to(first.dtype).view(bits).ne(first.view(bits)).sum())


def _exclusive_or(
    first: torch.Tensor, piece: Piece, start: int, inputs: torch.Tensor, target: torch.Tensor
) -> None:
    """target = first ^ base; bytes that the base does not have count as zero."""
    existing = max(0, min(first.numel(), piece.from_base - start)) if piece.task.terms else 0
    target[existing:] = first[existing:]
    if existing:
        base = _values(inputs, piece.inputs[1], start, existing, "U8")
        torch.bitwise_xor(first[:existing], base, out=target[:existing])


def _values(buffer: torch.Tensor, place: int, start: int, count: int, dtype: str) -> torch.Tensor:
    kind = TORCH[dtype]
    begin = place + start * kind.itemsize
    return buffer[begin : begin + count * kind.itemsize].view(kind)


def _count_non_finite(total: torch.Tensor, target: torch.Tensor, dtype: str) -> int:
    """One cheap pass finds that all is well, which is nearly always; only else are values counted."""
    low, high = torch.aminmax(total)
    if -LARGEST[dtype] <= low.item() and high.item() <= LARGEST[dtype]:
        return 0
    return int(torch.isfinite(target).logical_not().sum())
