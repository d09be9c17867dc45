"""The sum of all recovered parameters, where a publisher names it: the one check of a diff without a manifest.

stanford_alpaca compares its sum absolutely, alpaca_farm publishes `model_sum.txt` beside the diff and compares
relatively. Both sum the state dict of the recovered model: tied names count twice, and so do the rotary buffers
that old diffs store, whether or not they are written. It can only be known at the end.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_ops.recovery.dtypes import ADDABLE
from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.folder import inner_file
from model_ops.recovery.options import Options

if TYPE_CHECKING:
    from model_ops.recovery.control import Control
    from model_ops.recovery.planned import Plan
    from model_ops.recovery.tensors import TensorRef

SUM_FILE = "model_sum.txt"
_ABSOLUTE = 1e-2  # stanford_alpaca's
_RELATIVE = 1e-5  # alpaca_farm's
_LONGEST = 100  # bytes of a file that holds one number
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class ExpectedSum:
    """What the sum must be, how far off it may be, and who says so: the option's or the file's name."""

    value: float
    tolerance: float
    source: str

    def to_json(self) -> dict[str, Any]:
        """For the plan as JSON."""
        return {"value": self.value, "tolerance": self.tolerance, "source": self.source}

    def describe(self) -> str:
        """For a person."""
        return f"the parameters must add up to {self.value!r} within {self.tolerance!r} ({self.source})"


def find_expected_sum(diff: Path, options: Options) -> ExpectedSum | None:
    """What the options name, else what `model_sum.txt` beside the diff says; None where nobody says anything."""
    if options.expected_sum is not None:
        tolerance = _ABSOLUTE if options.sum_tolerance is None else options.sum_tolerance
        return ExpectedSum(options.expected_sum, tolerance, "--expected-sum")
    path = diff / SUM_FILE
    if not path.exists() and not path.is_symlink():
        return None
    value = _read_number(inner_file(diff, SUM_FILE))
    return ExpectedSum(value, abs(value) * _RELATIVE, SUM_FILE)


def _read_number(path: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        if path.stat().st_size <= _LONGEST and math.isfinite(value := float(path.read_bytes())):
            return value
    raise Refusal(f"{path.name} beside the diff does not hold one number; mend it, or take it away.")


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
    from model_ops.recovery.reading import Reader

    total = 0.0
    with contextlib.closing(Reader(control)) as reader:
        for name in plan.dropped:
            mine = plan.first.tensors.get(name)
            theirs = plan.base.tensors.get(name) if mine else None
            total += sum(_sum(ref, reader) for ref in (mine, theirs) if ref)
    return total


def _sum(ref: TensorRef, reader: Any) -> float:
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
