"""Peak memory on the set, on one twice as large, and on one whose largest tensor is four times as large."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.recovery.engine import plan, recover
from tests.bench.recovery.race import prepare
from tests.bench.recovery.sets import MEMORY_SETS, WeightSet, ensure_set


@dataclass(frozen=True)
class Peak:
    """Peak memory in bytes: as planned, and as measured."""

    name: str
    parameters: int
    largest_tensor: int
    planned: int
    seen: int


def peaks(folder: Path, smallest: WeightSet) -> Iterator[Peak]:
    """Recover each set once, cold; delete sets made only for this right away."""
    yield _peak(smallest)
    for name in MEMORY_SETS[smallest.name]:
        there_before = (folder / name).exists()
        weights = ensure_set(folder, name)
        try:
            yield _peak(weights)
        finally:
            if not there_before:
                shutil.rmtree(weights.folder)


def _peak(weights: WeightSet) -> Peak:
    planned = plan(weights)["peak_memory"]
    prepare(weights, "cold")
    seen = recover(weights).peak_rss
    weights.clear_output()
    shape = weights.shape
    return Peak(weights.name, shape.values(), 4 * (shape.vocab + 1) * shape.hidden, planned, seen)
