"""How a command shows its progress: as JSON lines, as a bar on a terminal, or not at all."""

from __future__ import annotations

import json
import sys
import time

from model_ops.recovery.planning.plan import human
from model_ops.recovery.system.control import Report


def choose_report(*, as_json: bool = False) -> Report:
    """Return the reporter: JSON lines if requested, a bar if standard error is a terminal, or none."""
    if as_json:
        return report_json
    return Bar() if sys.stderr.isatty() else report_nothing


def report_nothing(done: int, total: int, shard: str) -> None:
    """Report nothing, because no one requested progress."""


def report_json(done: int, total: int, shard: str) -> None:
    """Print one line to standard output, for a program."""
    print(json.dumps({"bytes_done": done, "bytes_total": total, "shard": shard}), flush=True)


class Bar:
    """One line that is rewritten: share, speed, time left. It ends once, when everything is done."""

    def __init__(self) -> None:
        self._began, self._ended = time.monotonic(), False

    def __call__(self, done: int, total: int, shard: str) -> None:
        if self._ended:
            return
        self._ended = done == total
        seconds = max(time.monotonic() - self._began, 0.001)
        speed = done / seconds
        left = f"{(total - done) / speed:.0f} s left" if done else "starting"
        share = done / total if total else 0
        bar = "#" * int(share * 24)
        text = f"\r[{bar:<24}] {share:4.0%} {human(done)} of {human(total)}, {human(speed)}/s, {left}  "
        print(text, end="\n" if self._ended else "", file=sys.stderr, flush=True)
