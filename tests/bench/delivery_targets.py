"""The targets for the figures of `./dev.py bench delivery`."""

from __future__ import annotations

from typing import Any


def rows(figures: dict[str, Any]) -> list[tuple[str, float, float, bool]]:
    """Return each item with its figure, its target, and whether the target is met."""
    shares, gate = figures["throughput"], figures["gate"]
    least = {f"share of nginx alone, {way}": (shares[way]["of nginx alone"], target) for way, target in (("own", 0.8), ("nginx", 0.95))}  # fmt: skip
    most: dict[str, tuple[float, float]] = {}
    for name, cost in gate["milliseconds of processor"].items():
        most[f"ms of processor, {name}"] = (cost, 5)
    for method, count in gate["queries"].items():
        most[f"queries, {method}"] = (count, 3)
    for way, found in figures["slow clients"].items():
        for when, times in found.items():
            most[f"p95 of pages in ms, {way}, {when}"] = (times["p95"], 200)
    for way, found in figures["small files"].items():
        most[f"errors of small files, {way}"] = (found["errors"], 0)
    reached = [(what, figure, target, figure >= target) for what, (figure, target) in least.items()]
    return reached + [(what, figure, target, figure <= target) for what, (figure, target) in most.items()]


def judged(figures: dict[str, Any]) -> int:
    """Print met or missed for each target; return 1 if one is missed."""
    found = rows(figures)
    for what, figure, target, met in found:
        print(f"{'met' if met else 'missed'}: {what}: {figure} (target {target})", flush=True)
    return int(not all(met for *_, met in found))
