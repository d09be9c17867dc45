"""The sum of all recovered parameters, compared with the one that a publisher names."""

from __future__ import annotations

import contextlib
from typing import Any

from model_ops.recovery.control import Control
from model_ops.recovery.dtypes import ADDABLE
from model_ops.recovery.errors import Failure
from model_ops.recovery.planned import Plan
from model_ops.recovery.reading import Reader
from model_ops.recovery.tensors import TensorRef

_CHUNK = 1024 * 1024  # bytes read at once


def check_parameter_sum(plan: Plan, records: list[dict[str, Any]], control: Control) -> float | None:
    """The sum of the whole result, None where none is expected; Failure if it is not the one expected."""
    if plan.expected is None:
        return None
    found = sum(_counted(plan, records)) + _sum_of_dropped(plan, control)
    if not abs(found - plan.expected.value) <= plan.expected.tolerance:
        raise Failure(
            f"The recovered parameters add up to {found!r}, but {plan.expected.source} says "
            f"{plan.expected.value!r} (within {plan.expected.tolerance!r}), so the base or the diff is another than "
            "the publisher's; use the very files that the publisher names."
        )
    return found


def _counted(plan: Plan, records: list[dict[str, Any]]) -> list[float]:
    """Each tensor of the diff's state dict; both names of a tied one."""
    tie, result = plan.first.tie, []
    for record in records:
        for name, seen in record["tensors"].items():
            if tie and name == tie.input:
                result += [seen["total"]] * 2
            elif name in plan.first.tensors:
                result.append(seen["total"])
    return result


def _sum_of_dropped(plan: Plan, control: Control) -> float:
    """Buffers that the diff stores and the result does not: a few thousand values."""
    total = 0.0
    with contextlib.closing(Reader(control)) as reader:
        for name in plan.dropped:
            twin = plan.first.tie is not None and name == plan.first.tie.output
            mine = None if twin else plan.first.tensors.get(name)
            theirs = plan.base.tensors.get(name) if mine else None
            total += sum(_sum(ref, reader) for ref in (mine, theirs) if ref)
    return total


def _sum(ref: TensorRef, reader: Reader) -> float:
    import torch

    from model_ops.recovery.torch_dtypes import TORCH

    if ref.dtype not in ADDABLE:
        return 0.0
    total, buffer = 0.0, bytearray(min(ref.nbytes, _CHUNK))
    for start in range(0, ref.nbytes, _CHUNK):
        view = memoryview(buffer)[: ref.nbytes - start]
        reader.read_into(ref.path, ref.offset + start, view, drop=False)
        total += float(torch.frombuffer(view, dtype=TORCH[ref.dtype]).double().sum())
    return total
