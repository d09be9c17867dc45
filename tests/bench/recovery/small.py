"""Many small tensors: the processor time of the engine's whole process against that of a plain loop.

The set (100 MB for 50,000 tensors of 1 KB) takes seconds to make, so it is made for each run and deleted after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.errors import BenchError
from tests.bench.recovery.engine import MANIFEST, recover, sha256_of
from tests.bench.recovery.processes import Watched, python
from tests.bench.recovery.race import prepare
from tests.bench.recovery.sets import Shape, WeightSet, write_checkpoint

COUNTS = {"small-tensors": 50_000, "few-small-tensors": 400}  # the second for a test
VALUES = 256  # of a tensor: 1 KB of float32
WANTED = 1.0  # most that the engine may take of the loop's processor time


@dataclass(frozen=True)
class SmallShape(Shape):
    """Tensors that all have the same few values, as scales of experts do; no embeddings."""

    count: int = 0

    def tensors(self, *, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes."""
        for number in range(self.count):
            yield f"model.layers.{number // 50}.mlp.experts.{number % 50}.scale.weight", (VALUES,)


@dataclass(frozen=True)
class SmallRound:
    """Both whole processes, imports included, inputs in the page cache."""

    loop: Watched
    engine: Watched
    peak_rss: int

    @property
    def ratio(self) -> float:
        """The engine's processor time over the loop's."""
        return self.engine.cpu / self.loop.cpu

    def to_json(self) -> dict[str, Any]:
        """Every figure of the round."""
        return {"loop": self.loop.cpu, "engine": self.engine.cpu, "ratio": self.ratio}


def measure(folder: Path, name: str, rounds: int) -> Iterator[SmallRound]:
    """Loop and engine in turn. Raises BenchError where they do not write the same file."""
    weights = WeightSet(
        name, folder / name, SmallShape(hidden=0, layers=0, intermediate=0, vocab=0, count=COUNTS[name])
    )
    if weights.folder.exists():
        raise BenchError(f"{weights.folder} is in the way; move it away or name another --folder.")
    try:
        write_checkpoint(weights.base, weights.shape, dtype="float32", scale=0.02, rows=0, seed=1)
        write_checkpoint(weights.diff, weights.shape, dtype="float32", scale=0.001, rows=0, seed=2)
        for _ in range(rounds):
            yield _round(weights)
    finally:
        shutil.rmtree(weights.folder, ignore_errors=True)


def _round(weights: WeightSet) -> SmallRound:
    prepare(weights, "warm")
    loop = python("-m", "tests.bench.recovery.loop", str(weights.base), str(weights.diff), str(weights.out))
    if loop.status != 0:
        raise BenchError(f"The plain loop ended with status {loop.status}: {loop.complaint}")
    expected = _hashes(weights)
    prepare(weights, "warm")
    run = recover(weights)
    if _hashes(weights) != expected:
        raise BenchError("The engine did not write the file that the plain loop writes: it has a fault.")
    weights.clear_output()
    return SmallRound(loop, run.process, run.peak_rss)


def _hashes(weights: WeightSet) -> dict[str, str]:
    beside = {MANIFEST, "config.json"}
    return {path.name: sha256_of(path) for path in weights.out.iterdir() if path.name not in beside}


COLUMNS = ("round", "loop CPU s", "engine CPU s", "engine/loop", "loop peak MB", "engine peak MB")


def rows(rounds: list[SmallRound]) -> list[list[str]]:
    """A row for each round, and their medians."""
    found = [
        [each.loop.cpu, each.engine.cpu, each.ratio, each.loop.peak_rss / 1e6, each.peak_rss / 1e6]
        for each in rounds
    ]
    numbered = [(str(number), *line) for number, line in enumerate(found, 1)]
    numbered.append(("median", *map(median, zip(*found, strict=True))))
    return [
        [name, f"{loop:.2f}", f"{engine:.2f}", f"{ratio:.2f}", f"{first:.0f}", f"{second:.0f}"]
        for name, loop, engine, ratio, first, second in numbered
    ]


def verdict(rounds: list[SmallRound]) -> str:
    """One line."""
    ratio = median(each.ratio for each in rounds)
    held = "held" if ratio <= WANTED else "not held"
    return f"{ratio:.2f} times the processor time of a plain loop, at most {WANTED} wanted: {held}."
