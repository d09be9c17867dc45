"""The sum of all recovered parameters, compared with the one that a publisher states."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from model_ops.recovery.checkpoints.ties import names_of
from model_ops.recovery.errors import Failure
from model_ops.recovery.execution.buffer_sums import gaps
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.plan import Plan
from model_ops.recovery.system.control import Control

_CHUNK = 1024 * 1024  # bytes read at once


@dataclass(frozen=True)
class ParameterSum:
    """The sum of the result; `note` names buffers that the publisher's sum includes and this one does not."""

    value: float
    note: str | None = None


def check_parameter_sum(plan: Plan, records: list[dict[str, Any]], control: Control) -> ParameterSum | None:
    """Return the sum of the whole result; None if none is expected. Raises Failure if it does not match."""
    expected = plan.expected
    if expected is None:
        return None
    # Each tensor of the diff's state dict; a tied one counts once per name.
    times = {tie.written: len(tie.names) for tie in plan.first.ties}
    totals: list[float] = []
    for record in records:
        for name, seen in record["tensors"].items():
            if name in times or name in plan.first.tensors:
                totals += [seen["total"]] * times.get(name, 1)
    with contextlib.closing(Reader(control)) as reader:
        # Buffers that the diff stores and the result does not: a few thousand values.
        dropped = 0.0
        for name in plan.dropped:
            mine = None if name in names_of(plan.first.ties) else plan.first.tensors.get(name)
            theirs = plan.base.tensors.get(name) if mine else None
            dropped += sum(_sum_values(ref, reader) for ref in (mine, theirs) if ref)
        found = sum(totals) + dropped
        if expected.fits(found):
            return ParameterSum(found)
        for gap in gaps(plan, lambda ref: _sum_values(ref, reader)):
            if expected.fits(found + gap.value):
                note = f"{expected.source} also counts {gap.what}, {gap.value:.6g} in all; with them the sum fits."
                return ParameterSum(found, note)
    raise Failure(
        f"The recovered parameters add up to {found!r}, but {expected.source} says {expected.value!r} (within "
        f"{expected.tolerance!r}), so the base, the diff or that number is wrong; use the very files that the publisher "
        f"names, or {expected.way_out} to go on without this check."
    )


def _sum_values(ref: TensorRef, reader: Reader) -> float:
    import torch

    from model_ops.recovery.formats.torch_dtypes import TORCH

    kind = TORCH.get("U8" if ref.dtype == "BOOL" else ref.dtype)  # for a mask, how many values are set
    if kind is None:
        return 0.0
    total, buffer = 0.0, bytearray(min(ref.nbytes, _CHUNK))
    for start in range(0, ref.nbytes, _CHUNK):
        view = memoryview(buffer)[: ref.nbytes - start]
        reader.read_into(ref.path, ref.offset + start, view, drop=False)
        total += float(torch.frombuffer(view, dtype=kind).double().sum())
    return total
