"""The sum of all recovered parameters, if a publisher states it: the one check of a diff without a manifest.

stanford_alpaca compares its sum absolutely; alpaca_farm publishes `model_sum.txt` with the diff and compares
relatively. Both sum the state dict of the recovered model: tied names count twice, and so do the rotary
buffers that old diffs store, whether or not they are written (see `buffer_sums` for those that are not
stored). The sum is only known at the end.
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
_ABSOLUTE = 1e-2  # as in stanford_alpaca
_ROUNDING = 1e-6  # of the sum: a published running float32 sum is off by a few units in the last place
_RELATIVE = 1e-5  # as in alpaca_farm
_LONGEST = 100  # bytes of a file that contains one number


@dataclass(frozen=True)
class ExpectedSum:
    """The expected sum, how far off it may be, and its source: the name of the option or the file."""

    value: float
    tolerance: float
    source: str

    @property
    def way_out(self) -> str:
        """Return what to do if the number is wrong."""
        return f"take {SUM_FILE} away" if self.source == SUM_FILE else f"leave {self.source} out"

    def fits(self, found: float) -> bool:
        """Return whether this sum matches; never if a value is not finite."""
        return abs(found - self.value) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the sum for the plan's JSON."""
        return {"value": self.value, "tolerance": self.tolerance, "source": self.source}

    def describe(self) -> str:
        """Return a description for a person."""
        return f"the parameters must add up to {self.value!r} within {self.tolerance!r} ({self.source})"


def find_expected_sum(diff: Path, options: Options) -> ExpectedSum | None:
    """Return the sum in the options, else in `model_sum.txt` in the diff's folder; None if there is none."""
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
    raise Refusal(
        f"{path.name} in the diff's folder does not contain a single number; correct it or remove it."
    )
