"""Sum a matrix's rows in one pass, bit for bit as torch's `values.sum(0)` does.

A float32 sum depends on the order of its additions. torch adds in a cascade: `step` rows one after another
into level 0, `step` sums of level 0 into level 1, `step` of those into level 2, the rest into level 3. This
applies to the columns in full groups of 32. The columns after the last full group take the rows as four
interleaved streams, each with its own cascade.

The order is internal to torch and may differ in another build or on another processor. `find_group` therefore
compares with torch before the first use. If no group fits, `mean_rows` passes blocks of columns to torch
instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from model_ops.recovery.planning.columns import STREAMS, cascade_step

GROUPS = (32, 16, 64)  # columns that torch adds at once: 4 vectors of 8 (AVX2), 4 (NEON) or 16 values
NARROWEST = 8  # columns; torch adds narrower matrices in other groups
_LEVELS = 4
# Rows and columns of the compared matrices: every level, full groups with and without a rest, a rest alone.
_ROWS = (1, 2, 3, 7, 16, 31, 65, 260, 1100, 4500)
_COLUMNS = (8, 31, 32, 64, 75, 192)

Floats = Any  # a numpy array of float32


class Cascade:
    """The sum of `rows` rows of float32 values, added in blocks of whole steps.

    Only the last block may be partial.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.step = cascade_step(rows)
        self._power = self.step.bit_length() - 1
        self._levels = np.zeros((_LEVELS, columns), np.float32)
        self._done = 0

    def add(self, block: Floats) -> None:
        """Add the next rows, of shape [rows, columns]."""
        if not block.shape[1]:
            return
        whole = len(block) // self.step * self.step
        steps = block[:whole].reshape(-1, self.step, block.shape[1])
        for total in np.add.reduce(steps, axis=1, initial=0):
            self._done += self.step
            self._levels[1] += total
            for level in range(1, _LEVELS - 1):  # a full level is added to the one above it
                if self._done & ((self.step - 1) << (level * self._power)):
                    break
                self._levels[level + 1] += self._levels[level]
                self._levels[level] = 0
        for row in block[whole:]:
            self._levels[0] += row

    def total(self) -> Floats:
        """Return the sum of all rows, of shape [columns]."""
        result = self._levels[0].copy()
        for level in self._levels[1:]:
            result += level
        return result


class RowSum:
    """The sum of `rows` rows, added in blocks of a multiple of `STREAMS` steps.

    Only the last one may be partial.
    """

    def __init__(self, rows: int, columns: int, group: int) -> None:
        self._grouped = columns // group * group
        self._rest = columns - self._grouped
        self._plain = Cascade(rows, self._grouped)
        self._streams = Cascade(rows // STREAMS, STREAMS * self._rest)
        self._odd: Floats = np.empty((0, self._rest), np.float32)

    @np.errstate(over="ignore", invalid="ignore")  # values that are not finite are counted in the result
    def add(self, block: Floats) -> None:
        """Add the next rows, of shape [rows, columns]."""
        self._plain.add(block[:, : self._grouped])
        if self._rest:
            rest = np.ascontiguousarray(block[:, self._grouped :])
            whole = len(rest) // STREAMS * STREAMS
            self._streams.add(rest[:whole].reshape(-1, STREAMS * self._rest))
            self._odd = rest[whole:].copy()

    @np.errstate(over="ignore", invalid="ignore")
    def total(self) -> Floats:
        """Return the sum of all rows, of shape [columns]."""
        first, *others = self._streams.total().reshape(STREAMS, self._rest)
        for row in (*self._odd, *others):
            first += row
        return np.concatenate([self._plain.total(), first])


def find_group(rows: int) -> int | None:
    """Return how many columns torch adds at once here; None if its order for `rows` rows is unknown.

    Compared once per process for each step length. It takes about 20 ms, and longer only for over half a
    million rows.
    """
    return _group_for_step(cascade_step(rows))


@cache
def _group_for_step(step: int) -> int | None:
    return next(
        (
            group
            for group in GROUPS
            if all(_agrees_with_torch(values, group) for values in _sample_matrices(step))
        ),
        None,
    )


def _sample_matrices(step: int) -> Iterator[torch.Tensor]:
    """Yield matrices of normal values. The one for longer steps repeats a row, so it takes no memory."""
    generator = torch.Generator().manual_seed(7)
    for columns in _COLUMNS:
        for rows in _ROWS:
            yield torch.randn(rows, columns, generator=generator)
    if step > cascade_step(1):
        rows = next(1 << power for power in range(64) if cascade_step(1 << power) == step)
        yield torch.randn(1, max(GROUPS) + NARROWEST, generator=generator).expand(rows, -1)


def _agrees_with_torch(values: torch.Tensor, group: int) -> bool:
    """Return whether sum and mean match torch's own bit for bit."""
    rows, columns = values.shape
    sums, most = RowSum(rows, columns, group), STREAMS * 1024
    for start in range(0, rows, most):
        sums.add(values[start : start + most].contiguous().numpy())
    total = torch.from_numpy(sums.total())
    same_sum = torch.equal(total, values.sum(0))
    return same_sum and bool(torch.equal(total.div_(rows), values.mean(0)))
