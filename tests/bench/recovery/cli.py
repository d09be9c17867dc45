"""`./dev.py bench recovery`, or on a bare machine `PYTHONPATH=CHECKOUT python -m tests.bench recovery`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.errors import BenchError
from tests.bench.recovery import report, small
from tests.bench.recovery.added_row import ROW_COLUMNS, add_row
from tests.bench.recovery.engine import plan
from tests.bench.recovery.memory import peaks
from tests.bench.recovery.processes import CHECKOUT
from tests.bench.recovery.race import Round, medians, race, same_everywhere
from tests.bench.recovery.rivals import check_peer, compare, rates
from tests.bench.recovery.sets import MEMORY_SETS, ROW_SETS, SETS, WeightSet, ensure_set


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all options."""
    parser = argparse.ArgumentParser(
        prog="./dev.py bench recovery",
        description="The recovery engine against the fastest copy of the same bytes, on this machine.",
    )
    parser.add_argument("--folder", type=Path, help="where sets are kept and outputs are made (STATE/bench)")
    parser.add_argument(
        "--size",
        choices=[*SETS, *small.COUNTS],
        default="1b",
        help="which set (1b: 1.14 billion values, 11.5 GB); small-tensors: 50,000 tensors of 1 KB, the engine's processor"
        " time against that of a plain loop",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds cold and rounds warm (5)")
    parser.add_argument("--device", default="cpu", help="cuda[:N]: the engine there as well, bytes compared")
    parser.add_argument("--peer", action="store_true", help="the peer's steps too: 8 bytes of memory a value")
    parser.add_argument(
        "--memory-sets", action="store_true", help="peak memory on two larger sets, made and deleted"
    )
    parser.add_argument(
        "--added-row",
        action="store_true",
        help="instead: one row added to an embedding of 262,144, by the mean and by zeros (4 GB, made and deleted)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    options = build_parser().parse_args(arguments)
    _check(options)
    folder = (options.folder or _default_folder()).absolute()
    if options.size in small.COUNTS:
        figures = _measure_small(folder, options)
    else:
        figures = _measure_row(folder, options) if options.added_row else _measure_set(folder, options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _measure_row(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    facts = report.machine("cpu")
    _say(report.machine_line(facts))
    added = add_row(folder, ROW_SETS[options.size], rounds=options.rounds)
    _say(added.heading())
    _say(report.table(ROW_COLUMNS, added.rows()))
    return {"machine": facts, "added_row": added.to_json()}


def _measure_set(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    weights = ensure_set(folder, options.size)
    try:
        return _measure(weights, options)
    finally:
        weights.clear_output()


def _check(options: argparse.Namespace) -> None:
    """Refuse impossible options before anything is created."""
    if options.rounds < 1:
        raise BenchError("--rounds needs a number of 1 or more.")
    if options.size in small.COUNTS and (options.device != "cpu" or options.peer):
        raise BenchError(f"--size {options.size} compares the engine on the CPU with a plain loop alone.")
    if options.memory_sets and options.size not in MEMORY_SETS:
        raise BenchError(f"--memory-sets goes with --size {' or '.join(MEMORY_SETS)}.")
    if options.added_row and options.size not in ROW_SETS:
        raise BenchError(f"--added-row goes with --size {' or '.join(ROW_SETS)}.")
    if options.json and not options.json.absolute().parent.is_dir():
        raise BenchError(f"The folder of --json {options.json} is not there.")


def _default_folder() -> Path:
    return Path(os.environ.get("GATEHOUSE_STATE") or CHECKOUT / ".gatehouse") / "bench"


def _measure(weights: WeightSet, options: argparse.Namespace) -> dict[str, Any]:
    """Print each part as soon as it is measured; return all figures."""
    if options.peer:
        check_peer(weights)
    facts = report.machine(options.device)
    _say(report.heading(facts, weights))
    figures: dict[str, Any] = {"machine": facts, "set": {"name": weights.name, **asdict(weights.shape)}}
    figures |= _race(weights, options.rounds, ["cpu", *([options.device] if options.device != "cpu" else [])])
    if options.peer:
        found = compare(weights)
        _say("\n".join(report.peer_lines(found)))
        rate = rates(weights, rounds=options.rounds)
        _say("\n".join(report.rate_lines(rate)))
        figures |= {"peer": found.to_json(), "bytes_per_second": rate}
    if options.memory_sets:
        seen = list(peaks(weights.folder.parent, weights))
        _say(report.table(report.PEAK_COLUMNS, report.peak_rows(seen)))
        figures["memory"] = [asdict(peak) for peak in seen]
    return figures


def _measure_small(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    facts, count = report.machine("cpu"), small.COUNTS[options.size]
    _say(
        report.machine_line(facts)
        + f"\n{count} tensors of {small.VALUES} float32 values on both sides, warm."
    )
    rounds = []
    for each in small.measure(folder, options.size, options.rounds):
        rounds.append(each)
        print(f"{len(rounds)}: {each.ratio:.2f}", file=sys.stderr, flush=True)
    _say(report.table(small.COLUMNS, small.rows(rounds)))
    _say(small.verdict(rounds))
    return {"machine": facts, "set": options.size, "rounds": [each.to_json() for each in rounds]}


def _race(weights: WeightSet, count: int, devices: list[str]) -> dict[str, Any]:
    planned = plan(weights)
    rounds: list[Round] = []
    rows: list[list[str]] = []
    for each in race(weights, rounds=count, devices=devices):
        rounds.append(each)
        number = (len(rounds) - 1) % count + 1
        rows += report.round_rows(each, number)
        print(f"{each.cache} {number}: {each.ratio(devices[-1]):.2f}", file=sys.stderr, flush=True)
    hashes = same_everywhere(rounds)
    halves = {"cold": rounds[:count], "warm": rounds[count:]}
    rows += [report.median_row(half, device) for half in halves.values() for device in devices]
    _say(report.table(report.COLUMNS, rows))
    _say("\n".join(report.verdict(half, devices[0]) for half in halves.values()))
    _say("\n".join(report.bytes_lines(halves["cold"][-1].runs["cpu"], planned)))
    _say(
        f"{len(rounds) * len(devices)} runs gave the same {len(hashes)} files; the manifest names their hashes."
    )
    return {
        "rounds": [each.to_json() for each in rounds],
        "medians": {
            cache: {device: medians(half, device) for device in devices} for cache, half in halves.items()
        },
        "planned": {name: planned[name] for name in ("bytes_to_read", "bytes_to_write", "peak_memory")},
        "sha256": hashes,
    }


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)
