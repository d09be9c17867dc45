"""The arithmetic of one block: add or subtract its terms in float32, and cast the result once.

The values are combined in parts, in CPU or device memory, wherever they are. Element-wise IEEE operations
give the same bits everywhere, except for a NaN's payload: a block with a NaN is always made on the CPU (see
`makers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy
import torch

from model_ops.recovery.formats.torch_dtypes import BITS, LARGEST, TORCH
from model_ops.recovery.planning.blocks import Block, Piece


@dataclass
class Counts:
    """Statistics of one tensor of the result.

    They count values that are not finite and values that a round trip does not restore. `min` and `max` cover
    only finite values, None if there are none. `total` is the sum before the cast, if requested.
    """

    non_finite: int = 0
    not_restored: int = 0
    total: float = 0.0
    min: float | None = None
    max: float | None = None

    def extend(self, low: float, high: float) -> None:
        """Widen the range by finite values from `low` to `high`."""
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)


def records_of(counts: dict[str, Counts], dtype: str) -> dict[str, dict[str, Any]]:
    """Return each tensor's statistics for the shard's record, extremes as the result's dtype holds them."""
    extremes = [value for seen in counts.values() for value in (seen.min, seen.max) if value is not None]
    # Round them like the values themselves. Remove the sign of zero: which zero is least depends on the
    # order.
    rounded = torch.tensor(extremes, dtype=torch.float32).to(TORCH[dtype]).tolist()
    stored = iter([value + 0.0 for value in rounded])
    return {
        name: {
            "non_finite": seen.non_finite,
            "not_restored": seen.not_restored,
            "total": seen.total,
            "min": None if seen.min is None else next(stored),
            "max": None if seen.max is None else next(stored),
        }
        for name, seen in counts.items()
    }


_Tensors = list[tuple[str, int, int]]  # as returned by `Piece.within`


class _Seen(NamedTuple):
    """The statistics of one part, with a number for each of its tensors.

    A part with a sum has only one tensor.
    """

    piece: Piece
    start: int
    tensors: _Tensors
    lows: Sequence[float]
    highs: Sequence[float]
    total: float
    lost: Sequence[float]


@dataclass(frozen=True)
class Arithmetic:
    """How values are combined: `sign` +1 adds, -1 subtracts.

    With `half_steps`, inputs and sum are rounded to float16, as in FastChat.
    """

    sign: int
    half_steps: bool
    out_dtype: str
    check_round_trip: bool = False
    means: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    add_up: bool = False


class Combiner:
    """A combiner of blocks in the memory of one device, `part` values at a time.

    It reuses its scratch memory and so takes one block at a time: use one combiner per shard.
    """

    def __init__(self, arithmetic: Arithmetic, device: torch.device, part: int) -> None:
        self.arithmetic, self.device, self.part = arithmetic, device, part
        self.scratch = [] if self._bytes_only else [torch.empty(part, device=device) for _ in range(4)]
        self.means = {name: tuple(row.to(device) for row in rows) for name, rows in arithmetic.means.items()}

    def combine(self, block: Block, inputs: torch.Tensor, out: torch.Tensor) -> list[torch.Tensor]:
        """Fill the pieces' places in `out` from `inputs`, both on the device; the header is not touched.

        Returns statistics as float32 tensors, which may still be computing. For each part: the minimum of
        each tensor in it, then the maximums, then the sum of its only tensor if requested, and if requested
        the number of values of each that are not restored. `tally` reads them.
        """
        seen: list[torch.Tensor] = []
        for piece, start, count in self._split_parts(block):
            seen += self._combine_part(piece, start, count, inputs, out)
        return seen

    def seen_in(self, block: Block) -> int:
        """Return how many numbers `combine` returns."""
        if self._bytes_only:
            return 0
        each, once = 2 + self.arithmetic.check_round_trip, int(self.arithmetic.add_up)
        return sum(
            each * len(piece.within(start, count)) + once for piece, start, count in self._split_parts(block)
        )

    def is_finite(self, block: Block, seen: Sequence[float]) -> bool:
        """Return whether all values in the statistics are finite and stay so when cast.

        A NaN makes both extremes NaN.
        """
        parts = self._seen_by_part(block, seen)
        return all(all(map(self._in_range, part.lows, part.highs)) for part in parts)

    def tally(
        self, block: Block, seen: Sequence[float], out: torch.Tensor, counts: dict[str, Counts]
    ) -> None:
        """Add a block's statistics to the tensors' counts; `out` is its output in CPU memory."""
        if self._bytes_only:
            for piece in block.pieces:
                counts.setdefault(piece.task.name, Counts())
            return
        for part in self._seen_by_part(block, seen):
            for number, (name, start, count) in enumerate(part.tensors):
                counted = counts.get(name)
                if counted is None:
                    counted = counts[name] = Counts()
                low, high = part.lows[number], part.highs[number]
                if part.piece.task.whole is not None:
                    pass
                elif self._in_range(low, high):
                    counted.extend(low, high)
                else:  # some may not be finite; this is rare, so it may be slow
                    begin = part.start + start
                    values = _view_values(out, part.piece.position, begin, count, self.arithmetic.out_dtype)
                    finite = values[torch.isfinite(values)].float()
                    counted.non_finite += count - finite.numel()
                    if finite.numel():
                        counted.extend(*(extreme.item() for extreme in torch.aminmax(finite)))
                counted.total += part.total
                counted.not_restored += int(part.lost[number]) if part.lost else 0

    def _seen_by_part(self, block: Block, seen: Sequence[float]) -> Iterator[_Seen]:
        at = 0
        for piece, start, count in self._split_parts(block):
            tensors = piece.within(start, count)
            size, total, lost = len(tensors), 0.0, seen[0:0]
            lows, highs = seen[at : at + size], seen[at + size : at + 2 * size]
            at += 2 * size
            if self.arithmetic.add_up:
                total, at = seen[at], at + 1
            if self.arithmetic.check_round_trip:
                lost, at = seen[at : at + size], at + size
            yield _Seen(piece, start, tensors, lows, highs, total, lost)

    @property
    def _bytes_only(self) -> bool:
        return self.arithmetic.out_dtype == "U8"

    def _in_range(self, low: float, high: float) -> bool:
        largest: float = LARGEST[self.arithmetic.out_dtype]
        return -largest <= low and high <= largest

    def _split_parts(self, block: Block) -> Iterator[tuple[Piece, int, int]]:
        """Yield (piece, first element, number of elements) for each part."""
        for piece in block.pieces:
            for start in range(0, piece.count, self.part):
                yield piece, start, min(self.part, piece.count - start)

    def _combine_part(
        self, piece: Piece, start: int, count: int, inputs: torch.Tensor, out: torch.Tensor
    ) -> list[torch.Tensor]:
        """Combine one part of a piece, and return its statistics as in `combine`."""
        rules = self.arithmetic
        if piece.task.whole is not None:
            return self._add_whole_numbers(piece, start, count, inputs, out)
        first = _view_values(inputs, piece.inputs[0], start, count, piece.task.first.dtype)
        target = _view_values(out, piece.position, start, count, rules.out_dtype)
        if self._bytes_only:
            # target = first ^ base; bytes beyond the end of the base count as zero
            existing = max(0, min(count, piece.from_base - start)) if piece.task.terms else 0
            target[existing:] = first[existing:]
            if existing:
                base = _view_values(inputs, piece.inputs[1], start, existing, "U8")
                torch.bitwise_xor(first[:existing], base, out=target[:existing])
            return []
        # With one term, torch does it in one operation: it adds 16-bit values in float32 too, and rounds the
        # sum once.
        dtypes = [ref.dtype for ref in (piece.task.first, *piece.task.terms)]
        as_peer = not rules.half_steps or rules.out_dtype == "F16"
        plain = as_peer and piece.task.fill is None and not (rules.add_up or rules.check_round_trip)
        if plain and dtypes == [rules.out_dtype] * 2:
            term = _view_values(inputs, piece.inputs[1], start, count, rules.out_dtype)
            total = torch.add(first, term, alpha=rules.sign, out=target)
        else:
            total = target if rules.out_dtype == "F32" else self.scratch[2][:count]
            self._add_terms(first, piece, start, inputs, total, rules.sign)
        if total is not target:
            target.copy_(total)
        tensors = piece.within(start, count)
        seen = list(self._find_extremes(total, tensors))
        if rules.add_up:
            seen.append(total.sum().view(1))
        if rules.check_round_trip:
            seen.append(self._count_not_restored(first, target, piece, start, inputs, tensors))
        return seen

    def _add_whole_numbers(
        self, piece: Piece, start: int, count: int, inputs: torch.Tensor, out: torch.Tensor
    ) -> list[torch.Tensor]:
        """Add whole numbers as torch does. Only their sum is recorded, and they can always be restored."""
        rules, dtype = self.arithmetic, piece.task.first.dtype
        target = _view_values(out, piece.position, start, count, dtype)
        target.copy_(_view_values(inputs, piece.inputs[0], start, count, dtype))
        for place in piece.inputs[1:]:
            target.add_(_view_values(inputs, place, start, count, dtype), alpha=rules.sign)
        nothing = torch.zeros(1, device=self.device)
        total = [target.sum().float().view(1)] if rules.add_up else []
        return [nothing, nothing, *total, *([nothing] if rules.check_round_trip else [])]

    def _find_extremes(self, values: torch.Tensor, tensors: _Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the minimum and maximum of each tensor; if it holds a NaN, both are NaN."""
        if len(tensors) == 1:
            low, high = torch.aminmax(values)
            return low.float().view(1), high.float().view(1)
        if values.dtype is not torch.float32:
            values = self.scratch[2][: values.numel()].copy_(values)
        array, starts = values.numpy(), [start for _, start, _ in tensors]
        with numpy.errstate(invalid="ignore"):
            lows, highs = numpy.minimum.reduceat(array, starts), numpy.maximum.reduceat(array, starts)
        return torch.from_numpy(lows), torch.from_numpy(highs)

    def _add_terms(
        self,
        first: torch.Tensor,
        piece: Piece,
        start: int,
        inputs: torch.Tensor,
        total: torch.Tensor,
        sign: int,
    ) -> None:
        """Set the total to first + sign * term for each term in turn, rounding like the original tool."""
        so_far = self._as_float(first, self.scratch[0])
        if not piece.task.terms:
            total.copy_(so_far)
        for number in range(len(piece.task.terms)):
            term = self._read_term_as_float(number, piece, start, first.numel(), inputs)
            torch.add(so_far, term, alpha=sign, out=total)
            if self.arithmetic.half_steps:
                total.copy_(total.half())
            so_far = total

    def _read_term_as_float(
        self, number: int, piece: Piece, start: int, count: int, inputs: torch.Tensor
    ) -> torch.Tensor:
        """The base's values as float32: its own, then those of the rows it does not have."""
        existing = max(0, min(count, piece.from_base - start))
        dtype = piece.task.terms[number].dtype
        own = _view_values(inputs, piece.inputs[number + 1], start, existing, dtype)
        scratch = self.scratch[1]
        values = self._as_float(own, scratch)
        if existing == count:
            return values
        scratch[:existing] = values
        if piece.task.fill == "zero":
            scratch[existing:count] = 0.0
        else:
            mean, begin = self.means[piece.task.name][number], piece.start + start
            elements = torch.arange(begin + existing, begin + count, device=self.device)
            scratch[existing:count] = mean[elements % mean.numel()]
        return scratch[:count]

    def _as_float(self, values: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        if self.arithmetic.half_steps and values.dtype is not torch.float16:
            values = values.half()
        if values.dtype is torch.float32:
            return values
        return scratch[: values.numel()].copy_(values)

    def _count_not_restored(
        self,
        first: torch.Tensor,
        stored: torch.Tensor,
        piece: Piece,
        start: int,
        inputs: torch.Tensor,
        tensors: _Tensors,
    ) -> torch.Tensor:
        """Count each tensor's values that adding back the stored difference does not restore bit for bit."""
        again = self.scratch[3][: first.numel()]
        self._add_terms(stored, piece, start, inputs, again, +1)
        bits = BITS[piece.task.first.dtype]
        marked = again.to(first.dtype).view(bits).ne(first.view(bits))
        if len(tensors) == 1:
            return marked.sum().float().view(1)
        starts = [start for _, start, _ in tensors]
        return torch.from_numpy(numpy.add.reduceat(marked.numpy(), starts, dtype=numpy.float32))


def _view_values(buffer: torch.Tensor, place: int, start: int, count: int, dtype: str) -> torch.Tensor:
    kind = TORCH[dtype]
    begin = place + start * kind.itemsize
    return buffer[begin : begin + count * kind.itemsize].view(kind)
