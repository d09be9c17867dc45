"""The cost of growing an embedding of 262,144 rows by one, with the mean of its rows and with zeros."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.recovery.engine import plan, recover
from tests.bench.recovery.page_cache import PREPARE
from tests.bench.recovery.race import prepare
from tests.bench.recovery.sets import Shape, WeightSet, ensure_set

POLICIES = ("mean", "zero")
ROW_COLUMNS = (
    "new row",
    "cache",
    "median s",
    "least s",
    "most s",
    "read GB",
    "times the embedding read again",
)


@dataclass(frozen=True)
class RowRun:
    """One recovery: the engine's own seconds and the bytes that it read."""

    policy: str
    cache: str
    seconds: float
    bytes_read: int
    peak_rss: int


@dataclass(frozen=True)
class AddedRow:
    """All runs on one set. `bytes_to_read` counts every range of the inputs once."""

    shape: Shape
    bytes_to_read: int
    runs: tuple[RowRun, ...]

    @property
    def embedding_bytes(self) -> int:
        """Return the bytes of the base's embedding in float16."""
        return 2 * self.shape.vocab * self.shape.hidden

    def heading(self) -> str:
        """Return one line on what was grown and how large the inputs are."""
        peak = max(run.peak_rss for run in self.runs)
        return (
            f"One row added at vocabulary {self.shape.vocab:,} and hidden size {self.shape.hidden:,}: the embedding is "
            f"{self.embedding_bytes / 1e9:.2f} GB, the inputs read once are {self.bytes_to_read / 1e9:.2f} GB; peak "
            f"memory {peak / 1e6:.0f} MB."
        )

    def rows(self) -> list[list[str]]:
        """Return a row of the table for each policy and cache state."""
        return [self._row(policy, cache) for cache in PREPARE for policy in POLICIES]

    def _row(self, policy: str, cache: str) -> list[str]:
        runs = [run for run in self.runs if (run.policy, run.cache) == (policy, cache)]
        seconds, read = [run.seconds for run in runs], max(run.bytes_read for run in runs)
        again = (read - self.bytes_to_read) / self.embedding_bytes
        times = [f"{value:.2f}" for value in (median(seconds), min(seconds), max(seconds))]
        return [policy, cache, *times, f"{read / 1e9:.2f}", f"{again:.2f}"]

    def to_json(self) -> dict[str, Any]:
        """Return every figure."""
        return {
            "embedding_bytes": self.embedding_bytes,
            "bytes_to_read": self.bytes_to_read,
            "runs": [asdict(run) for run in self.runs],
        }


def add_row(folder: Path, name: str, *, rounds: int) -> AddedRow:
    """Measure the set `name`: cold rounds, then warm ones.

    Delete the set afterwards if it was made for this.
    """
    there_before = (folder / name).exists()
    weights = ensure_set(folder, name)
    try:
        runs = [
            _run(weights, policy, cache) for cache in PREPARE for _ in range(rounds) for policy in POLICIES
        ]
        return AddedRow(weights.shape, plan(weights)["bytes_to_read"], tuple(runs))
    finally:
        weights.clear_output()
        if not there_before:
            shutil.rmtree(weights.folder)


def _run(weights: WeightSet, policy: str, cache: str) -> RowRun:
    prepare(weights, cache)
    found = recover(weights, resize_policy=policy)
    return RowRun(policy, cache, found.seconds, int(found.said["bytes_read"]), found.peak_rss)
