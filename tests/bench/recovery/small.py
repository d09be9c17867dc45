"""Many small tensors: the CPU time of the engine's whole process compared with a plain loop's.

The set (100 MB for 50,000 tensors of 1 KB) takes seconds to generate, so it is made for each run and then
deleted.
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

COUNTS = {"small-tensors": 50_000, "few-small-tensors": 400}  # the second one is for a test
VALUES = 256  # per tensor: 1 KB of float32
WANTED = 1.0  # the engine's CPU time may be at most this multiple of the loop's


@dataclass(frozen=True)
class SmallShape(Shape):
    """Tensors that all have the same few values, like the scales of experts; no embeddings."""

    count: int = 0

    def tensors(self, *, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Return names and shapes."""
        for number in range(self.count):
            yield f"model.layers.{number // 50}.mlp.experts.{number % 50}.scale.weight", (VALUES,)


@dataclass(frozen=True)
class SmallRound:
    """One round of both whole processes, imports included, with inputs in the page cache."""

    loop: Watched
    engine: Watched
    peak_rss: int

    @property
    def ratio(self) -> float:
        """Return the engine's CPU time divided by the loop's."""
        return self.engine.cpu / self.loop.cpu

    def to_json(self) -> dict[str, Any]:
        """Return every figure of the round."""
        return {"loop": self.loop.cpu, "engine": self.engine.cpu, "ratio": self.ratio}


def measure(folder: Path, name: str, rounds: int) -> Iterator[SmallRound]:
    """Run loop and engine in turn; raise BenchError if they do not write the same file."""
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
    """Return a row for each round, and one of medians."""
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
    """Return one line on whether the limit is held."""
    ratio = median(each.ratio for each in rounds)
    held = "held" if ratio <= WANTED else "not held"
    return f"{ratio:.2f} times the processor time of a plain loop, at most {WANTED} wanted: {held}."
