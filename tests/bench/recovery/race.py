"""Alternating rounds of copies and engine, so that other work on the machine affects both alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.errors import BenchError
from tests.bench.recovery.copies import WAYS, time_copy
from tests.bench.recovery.engine import EngineRun, check_output, recover
from tests.bench.recovery.page_cache import PREPARE
from tests.bench.recovery.sets import WeightSet


@dataclass(frozen=True)
class Round:
    """Seconds of each copy (None if not possible here), and the engine's run on each device."""

    cache: str
    copies: dict[str, float | None]
    runs: dict[str, EngineRun]

    @property
    def fastest(self) -> float:
        """Return the seconds of the fastest copy."""
        return min(seconds for seconds in self.copies.values() if seconds is not None)

    def ratio(self, device: str) -> float:
        """Return the engine's seconds divided by the fastest copy's."""
        return self.runs[device].seconds / self.fastest

    def to_json(self) -> dict[str, Any]:
        """Return every figure of the round."""
        return {
            "cache": self.cache,
            "copies": self.copies,
            "fastest_copy": self.fastest,
            "engine": {device: run.to_json() for device, run in self.runs.items()},
            "ratio": {device: self.ratio(device) for device in self.runs},
        }


def race(weights: WeightSet, *, rounds: int, devices: list[str]) -> Iterator[Round]:
    """Run cold rounds, then warm ones. Compare the last output with its manifest before deleting it."""
    for cache in PREPARE:
        for number in range(1, rounds + 1):
            copies = {way: _copy(weights, way, cache) for way in WAYS}
            runs = {device: _recover(weights, device, cache) for device in devices}
            if cache == "warm" and number == rounds:
                check_output(weights, runs[devices[-1]])
            weights.clear_output()
            yield Round(cache, copies, runs)


def _copy(weights: WeightSet, way: str, cache: str) -> float | None:
    prepare(weights, cache)
    return time_copy(weights, way)


def _recover(weights: WeightSet, device: str, cache: str) -> EngineRun:
    prepare(weights, cache)
    return recover(weights, device=device)


def prepare(weights: WeightSet, cache: str) -> None:
    """Delete the output, and make the inputs cold or warm."""
    weights.clear_output()
    PREPARE[cache](weights.inputs)


def same_everywhere(rounds: list[Round]) -> dict[str, str]:
    """Return the hashes that every run of every round gave; raise BenchError if one differs."""
    hashes = [run.hashes for each in rounds for run in each.runs.values()]
    if any(each != hashes[0] for each in hashes):
        raise BenchError("The engine did not give the same bytes in every run: it has a fault.")
    return hashes[0]


def medians(rounds: list[Round], device: str) -> dict[str, float]:
    """Return medians: the fastest copies, the engine's seconds, its whole process, the rounds' ratios."""
    return {
        "fastest_copy": median(each.fastest for each in rounds),
        "engine": median(each.runs[device].seconds for each in rounds),
        "process": median(each.runs[device].process.wall for each in rounds),
        "ratio": median(each.ratio(device) for each in rounds),
    }
