"""What a person can choose about the result: one value shared by plans, the command line and the portal.

Every option changes bytes of the result, or the checks on it. How the work is done (device, jobs, memory) is
not part of it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from model_ops.recovery.checkpoints.ties import parse_tied
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.dtypes import LONG_NAMES, parse_dtype
from model_ops.recovery.formats.layout import parse_shard_size

METHODS = ("add", "xor")
COMPATS = {"weight_diff": "F32", "fastchat": "F16"}  # tool -> the dtype it writes
RESIZE_POLICIES = ("mean", "zero", "skip", "cut", "error")
DIFF_ONLY = ("refuse", "copy")
DEFAULT_SHARD_SIZE = "5GB"


@dataclass(frozen=True)
class Options:
    """What a person can choose about the result. Creating it raises Refusal if options are invalid.

    With `dtype` None, the compat tool's dtype is written. With `resize_policy` None, the policy in the diff's
    own manifest applies, else `mean` if weight_diff would have grown the base too. `expected_sum` is the sum
    of all recovered parameters that a publisher states, and `sum_tolerance` how far off (absolutely) it may
    be. `tied` says which names are one tensor if the checkpoints do not (`none`, or `NAME=NAME`), and
    `diff_only` what happens to tensors that the base lacks.
    """

    method: str = "add"
    compat: str = "weight_diff"
    dtype: str | None = None
    resize_policy: str | None = None
    max_shard_size: str = DEFAULT_SHARD_SIZE
    keep_rotary: bool = False
    expected_sum: float | None = None
    sum_tolerance: float | None = None
    tied: str | None = None
    diff_only: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise Refusal(f"The method {self.method!r} is not known; use one of {', '.join(METHODS)}.")
        if self.compat not in COMPATS:
            raise Refusal(f"The compat tool {self.compat!r} is not known; use one of {', '.join(COMPATS)}.")
        if self.resize_policy is not None and self.resize_policy not in RESIZE_POLICIES:
            known = ", ".join(RESIZE_POLICIES)
            raise Refusal(f"The resize policy {self.resize_policy!r} is not known; use {known}.")
        if self.dtype is not None:
            parse_dtype(self.dtype)
        if self.tied is not None:
            parse_tied(self.tied)
        if self.diff_only not in (None, *DIFF_ONLY):
            raise Refusal(f"--diff-only {self.diff_only!r} is not known; use one of {', '.join(DIFF_ONLY)}.")
        parse_shard_size(self.max_shard_size)
        self._check_sum()
        if self.method == "xor" and self.dtype is not None:
            raise Refusal("With --method xor files come back as they were; leave --dtype out.")
        if self.method == "xor" and self.expected_sum is not None:
            raise Refusal("With --method xor no numbers are read; leave --expected-sum out.")

    def _check_sum(self) -> None:
        if self.sum_tolerance is not None and self.expected_sum is None:
            raise Refusal("--sum-tolerance has no effect without --expected-sum; give both.")
        if self.expected_sum is not None and not math.isfinite(self.expected_sum):
            raise Refusal(f"The expected sum {self.expected_sum} is not a finite number.")
        if self.sum_tolerance is not None and not 0 <= self.sum_tolerance < math.inf:
            raise Refusal(f"The tolerance {self.sum_tolerance} of the sum is not a number from 0 on.")

    def chosen(self) -> dict[str, Any]:
        """Return what differs from the defaults and has an effect.

        Equal choices give equal results, and `Options(**chosen)` restores them.
        """
        if self.method == "xor":
            return {"method": "xor"}
        plain = {
            "dtype": self.out_dtype == COMPATS[self.compat],
            "max_shard_size": self.shard_limit == DEFAULTS.shard_limit,
        }
        return {
            name: value
            for name, value in asdict(self).items()
            if value != getattr(DEFAULTS, name) and not plain.get(name)
        }

    @property
    def out_dtype(self) -> str:
        """Return the short name ("F32") of the dtype in which sums are written."""
        return parse_dtype(self.dtype) if self.dtype else COMPATS[self.compat]

    @property
    def dtype_name(self) -> str:
        """Return `out_dtype` as people write it."""
        return LONG_NAMES[self.out_dtype]

    @property
    def shard_limit(self) -> int:
        """Return the largest size of a weight file, in bytes."""
        return parse_shard_size(self.max_shard_size)


DEFAULTS = Options()
