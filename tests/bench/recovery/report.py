"""The benchmark's tables, as text."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.recovery.copies import WAYS
from tests.bench.recovery.engine import EngineRun
from tests.bench.recovery.memory import Peak
from tests.bench.recovery.race import Round, medians
from tests.bench.recovery.rivals import Comparison
from tests.bench.recovery.sets import WeightSet

WANTED = {"cold": 1.4, "warm": 1.6}  # the engine's time may be at most this multiple of the fastest copy's
MOST_MEMORY = 700e6


def machine(device: str) -> dict[str, Any]:
    """Return the facts that make figures comparable; the GPU only if one is measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "gpu": "no GPU used" if device == "cpu" else _cuda_name(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _cuda_name() -> str:
    """Return the name of the first GPU that torch can use."""
    import torch

    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "no CUDA"


def machine_line(facts: dict[str, Any]) -> str:
    """Return the date and the machine on one line."""
    return (
        f"{facts['date']}, {facts['cores']} cores ({facts['processor']}), {facts['memory_gb']} GB,"
        f" {facts['gpu']}, Python {facts['python']}, torch {facts['torch']}, load {facts['load']}"
    )


def heading(facts: dict[str, Any], weights: WeightSet) -> str:
    """Return two lines that describe the machine and the set."""
    shape = weights.shape
    return (
        f"{machine_line(facts)}\n"
        f"Set {weights.name}: {shape.values() / 1e9:.3f}B values; base float16 {shape.base_bytes / 1e9:.2f} GB in"
        f" {len(weights.base_files)} files, diff float32 {shape.diff_bytes / 1e9:.2f} GB. Seconds."
    )


COLUMNS = (
    "cache",
    "round",
    *WAYS,
    "fastest",
    "engine",
    "engine/fastest",
    "whole process",
    "peak MB",
    "device",
)


def round_rows(each: Round, number: int) -> list[list[str]]:
    """Return one row per device."""
    copies = ["-" if seconds is None else f"{seconds:.2f}" for seconds in each.copies.values()]
    return [
        [
            each.cache, str(number), *copies, f"{each.fastest:.2f}", f"{run.seconds:.2f}",
            f"{each.ratio(device):.2f}", f"{run.process.wall:.2f}", f"{run.peak_rss / 1e6:.0f}",
            str(run.said["device"]),
        ]
        for device, run in each.runs.items()
    ]  # fmt: skip


def median_row(rounds: list[Round], device: str) -> list[str]:
    """Return the row of medians, which is the one that counts."""
    found, run = medians(rounds, device), rounds[0].runs[device]
    peak = max(each.runs[device].peak_rss for each in rounds)
    return [
        rounds[0].cache, "median", *([""] * len(WAYS)), f"{found['fastest_copy']:.2f}", f"{found['engine']:.2f}",
        f"{found['ratio']:.2f}", f"{found['process']:.2f}", f"{peak / 1e6:.0f} at most", str(run.said["device"]),
    ]  # fmt: skip


def verdict(rounds: list[Round], device: str) -> str:
    """Return one line on whether the limit for this cache state is held."""
    ratio, cache = medians(rounds, device)["ratio"], rounds[0].cache
    held = "held" if ratio <= WANTED[cache] else "not held"
    return f"{cache}: {ratio:.2f} times the fastest copy, at most {WANTED[cache]} wanted: {held}."


def bytes_lines(run: EngineRun, plan: dict[str, Any]) -> list[str]:
    """Return the bytes read and written, by plan, engine and kernel; hashing must not read the output."""
    said, process = run.said, run.process
    again = said["bytes_read"] - plan["bytes_to_read"]
    beside = process.chars_read - said["bytes_read"]
    found = (
        "the output was not read" if beside < plan["bytes_to_write"] / 2 else "the set is too small to tell"
    )
    return [
        f"read: {_gb(plan['bytes_to_read'])} by the plan; {_gb(said['bytes_read'])} by the engine, {_gb(again)} of it"
        f" again; {_gb(process.chars_read)} by read() and {_gb(process.disk_read)} from the disk by the kernel",
        f"written: {_gb(plan['bytes_to_write'])} by the plan; {_gb(said['bytes_written'])} by the engine;"
        f" {_gb(process.disk_written)} to the disk by the kernel",
        f"{_gb(beside)} were read beside what the engine counts, imports included: {found}.",
    ]


def peak_rows(peaks: Sequence[Peak]) -> list[list[str]]:
    """Return each set's peak compared with the first one's."""
    return [
        [
            peak.name, f"{peak.parameters / 1e9:.3f}", f"{peak.largest_tensor / 1e6:.0f}",
            f"{peak.planned / 1e6:.0f}", f"{peak.seen / 1e6:.0f}", f"{peak.seen / peaks[0].seen:.2f}",
        ]
        for peak in peaks
    ]  # fmt: skip


PEAK_COLUMNS = ("set", "values (10^9)", "largest tensor MB", "planned MB", "seen MB", "of the first")


def peer_lines(found: Comparison) -> list[str]:
    """Return the times and peaks of peer and engine as whole processes, cold."""
    engine = found.engine
    return [
        f"peer:   {found.peer.wall:.1f} s, peak {found.peer.peak_rss / 1e6:.0f} MB (whole process, cold)",
        f"engine: {engine.process.wall:.1f} s, peak {engine.peak_rss / 1e6:.0f} MB, the same {len(found.same_files)}"
        f" file(s) byte for byte: {found.times_faster:.1f} times faster",
    ]


def rate_lines(found: dict[int, float]) -> list[str]:
    """Return one line per number of jobs."""
    return [f"--jobs {jobs}: {rate / 1e9:.2f} GB of result a second, warm" for jobs, rate in found.items()]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, padded so that it is readable as plain text."""
    lines = [columns, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    shown = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    shown.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in shown)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
