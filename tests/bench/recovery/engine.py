"""Run the engine's command line, watch it, and check its output."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.errors import BenchError
from tests.bench.recovery.processes import Watched, python
from tests.bench.recovery.sets import WeightSet

MANIFEST = "weights.manifest.json"
_MODULE = ("-m", "model_ops.recovery")


@dataclass(frozen=True)
class EngineRun:
    """One run of the engine: `said` is its own last line, `process` what was seen from outside."""

    said: dict[str, Any]
    process: Watched

    @property
    def seconds(self) -> float:
        """Return the engine's own time, from planning to renaming, without imports."""
        return float(self.said["seconds"])

    @property
    def peak_rss(self) -> int:
        """Return the larger of the peak that the engine reports and the one seen for it and its children."""
        return max(int(self.said["peak_rss_bytes"]), self.process.peak_rss)

    @property
    def hashes(self) -> dict[str, str]:
        """Return file name -> SHA-256 of the weights."""
        return {shard["file"]: shard["sha256"] for shard in self.said["shards"]}

    def to_json(self) -> dict[str, Any]:
        """Return everything but the process's output."""
        process = {name: value for name, value in asdict(self.process).items() if name not in _TEXTS}
        return {**self.said, "process": process, "peak_rss_bytes": self.peak_rss}


_TEXTS = ("output", "errors")


def recover(
    weights: WeightSet,
    *,
    device: str = "cpu",
    shard_size: str = "2500MB",
    jobs: int | None = None,
    resize_policy: str = "mean",
) -> EngineRun:
    """Recover the set into its output folder."""
    options = ["--device", device, "--max-shard-size", shard_size, *(["--jobs", str(jobs)] if jobs else [])]
    options += ["--resize-policy", resize_policy]
    return _run("recover", *_folders(weights), *options)


def make_diff(weights: WeightSet, target: Path) -> EngineRun:
    """Subtract the base from what is in the output folder, into `target`."""
    folders = {"--path_raw": weights.base, "--path_tuned": weights.out, "--path_diff": target}
    return _run("make_diff", *_arguments(folders))


def _run(*arguments: str) -> EngineRun:
    process = python(*_MODULE, *arguments, "--json")
    if process.status != 0:
        raise BenchError(f"The engine ended with status {process.status}: {process.complaint}")
    return EngineRun(json.loads(process.last_line), process)


def plan(weights: WeightSet, *, shard_size: str = "2500MB") -> dict[str, Any]:
    """Return the engine's plan."""
    process = python(*_MODULE, "plan", *_folders(weights), "--max-shard-size", shard_size, "--json")
    if process.status != 0:
        raise BenchError(f"The engine could not plan: {process.complaint}")
    return dict(json.loads(process.last_line))


def _folders(weights: WeightSet) -> list[str]:
    return _arguments({"--path_raw": weights.base, "--path_diff": weights.diff, "--path_tuned": weights.out})


def _arguments(named: dict[str, Path]) -> list[str]:
    return [str(part) for pair in named.items() for part in pair]


def check_output(weights: WeightSet, run: EngineRun) -> int:
    """Compare what a run left with its manifest and its last line; return the files checked."""
    manifest = json.loads((weights.out / MANIFEST).read_text())
    listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    found = {path.name: sha256_of(path) for path in weights.out.iterdir() if path.name != MANIFEST}
    if listed != found or not run.hashes.items() <= found.items():
        wrong = sorted(name for name in {*listed, *found} if listed.get(name) != found.get(name))
        raise BenchError(
            f"The manifest is wrong about {', '.join(wrong) or 'nothing'}: the engine has a fault."
        )
    return len(found)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a whole file, read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
