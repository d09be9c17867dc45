"""The sum of all recovered parameters, where a publisher names it: the one check of a diff without a manifest.

stanford_alpaca compares its sum absolutely, alpaca_farm publishes `model_sum.txt` beside the diff and compares
relatively. Both sum the state dict of the recovered model: tied names count twice, and so do the rotary buffers
that old diffs store, whether or not they are written (see `buffer_sums` for those that they do not store). It can only
be known at the end.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import inner_file
from model_ops.recovery.planning.options import Options

SUM_FILE = "model_sum.txt"
_ABSOLUTE = 1e-2  # stanford_alpaca's
_ROUNDING = 1e-6  # of the sum: a running sum in float32, as the peers publish it, is off by some units in its last place
_RELATIVE = 1e-5  # alpaca_farm's
_LONGEST = 100  # bytes of a file that holds one number


@dataclass(frozen=True)
class ExpectedSum:
    """What the sum must be, how far off it may be, and who says so: the option's or the file's name."""

    value: float
    tolerance: float
    source: str

    @property
    def way_out(self) -> str:
        """What to do where the number is wrong."""
        return f"take {SUM_FILE} away" if self.source == SUM_FILE else f"leave {self.source} out"

    def fits(self, found: float) -> bool:
        """Whether this is the sum; never where a value is not finite."""
        return abs(found - self.value) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """For the plan as JSON."""
        return {"value": self.value, "tolerance": self.tolerance, "source": self.source}

    def describe(self) -> str:
        """For a person."""
        return f"the parameters must add up to {self.value!r} within {self.tolerance!r} ({self.source})"


def find_expected_sum(diff: Path, options: Options) -> ExpectedSum | None:
    """What the options name, else what `model_sum.txt` beside the diff says; None where nobody says anything."""
    if options.expected_sum is not None:
        tolerance = options.sum_tolerance
        if tolerance is None:
            tolerance = max(_ABSOLUTE, abs(options.expected_sum) * _ROUNDING)
        return ExpectedSum(options.expected_sum, tolerance, "--expected-sum")
    path = diff / SUM_FILE
    if not path.exists() and not path.is_symlink():
        return None
    path = inner_file(diff, SUM_FILE)
    with contextlib.suppress(OSError, ValueError):
        if path.stat().st_size <= _LONGEST and math.isfinite(value := float(path.read_bytes())):
            return ExpectedSum(value, abs(value) * _RELATIVE, SUM_FILE)
    raise Refusal(f"{path.name} beside the diff does not hold one number; correct it or remove it.")
