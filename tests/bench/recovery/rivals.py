"""The peer's steps on the same set, and the engine's rate with one job and with two."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.errors import BenchError
from tests.bench.recovery.engine import EngineRun, recover, sha256_of
from tests.bench.recovery.processes import Watched, python
from tests.bench.recovery.race import prepare
from tests.bench.recovery.sets import WeightSet

_JOBS = (1, 2)
_PEER_LAYOUT = "50GB"  # the largest file that the peer writes


@dataclass(frozen=True)
class Comparison:
    """Cold runs of peer and engine in turn, with the engine writing a single file as the peer does."""

    peer: Watched
    engine: EngineRun
    same_files: tuple[str, ...]

    @property
    def times_faster(self) -> float:
        """Return how many times faster the engine is, as whole processes including imports."""
        return self.peer.wall / self.engine.process.wall

    def to_json(self) -> dict[str, Any]:
        """Return both runs, and which files are the same byte for byte."""
        return {
            "peer": {"wall": self.peer.wall, "peak_rss": self.peer.peak_rss},
            "engine": self.engine.to_json(),
            "same_files": list(self.same_files),
            "times_faster": self.times_faster,
        }


def check_peer(weights: WeightSet) -> None:
    """Raise BenchError if the peer cannot run; it holds both models in float32."""
    if find_spec("transformers") is None:
        raise BenchError("transformers is not installed here, and the peer needs it; leave --peer out.")
    needed = 8 * weights.shape.values() * 1.1 + 600e6
    if _free_memory() < needed:
        raise BenchError(
            f"The peer needs {needed / 1e9:.1f} GB of memory for this set, and {_free_memory() / 1e9:.1f} GB are"
            " free; leave --peer out or name a smaller --size."
        )


def compare(weights: WeightSet) -> Comparison:
    """Run peer and engine; raise BenchError if any weight files differ by a byte."""
    prepare(weights, "cold")
    peer = python("-m", "tests.bench.recovery.peer", str(weights.base), str(weights.diff), str(weights.out))
    if peer.status != 0:
        raise BenchError(f"The peer ended with status {peer.status}: {peer.complaint}")
    wanted = {path.name: sha256_of(path) for path in sorted(weights.out.glob("*.safetensors"))}
    prepare(weights, "cold")
    engine = recover(weights, shard_size=_PEER_LAYOUT)
    weights.clear_output()
    if engine.hashes != wanted:
        raise BenchError(f"Engine and peer made different files: {engine.hashes} against {wanted}.")
    return Comparison(peer, engine, tuple(wanted))


def rates(weights: WeightSet, *, rounds: int) -> dict[int, float]:
    """Return the bytes of result a second by number of jobs, warm, in turn; the median of the rounds."""
    seconds: dict[int, list[float]] = {jobs: [] for jobs in _JOBS}
    written = 0
    for _ in range(rounds):
        for jobs in _JOBS:
            prepare(weights, "warm")
            run = recover(weights, jobs=jobs)
            seconds[jobs].append(run.seconds)
            written = sum(shard["bytes"] for shard in run.said["shards"])
    weights.clear_output()
    return {jobs: written / median(each) for jobs, each in seconds.items()}


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
