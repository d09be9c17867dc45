"""The child process of `rendering`: it reads texts from its input and prints a line of JSON for each.

It sets its own limits before it reads. The kernel ends it when its CPU time is used up; what it has printed
by then is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import signal
import sys

from access_requests.rendering.process import Piece, render

PR_SET_PDEATHSIG = 1
MEMORY = 2**30  # bytes of address space
LARGEST_HTML = 4 * 2**20  # characters of all texts together; a card of 1 MiB becomes half as much again


def main() -> None:
    """Render the pieces of the input in order; print null for one that reached a limit."""
    if sys.platform == "linux":
        # The kernel ends us when the parent's thread ends; a parent that had ended before closed our input.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _set_limits(int(sys.argv[2]))
    left = LARGEST_HTML
    for kind, text, base, shift in json.load(sys.stdin):
        try:
            html: str | None = render(Piece(kind, text, base, shift))
        except (MemoryError, RecursionError):
            html = None
        if html is not None and len(html) > left:
            html = None
        left -= len(html or "")
        print(json.dumps(html), flush=True)  # noqa: T201 - the answer


def _set_limits(cpu: int) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(
            ValueError, OSError
        ):  # a stricter limit is set already, or the system has none
            resource.setrlimit(what, (most, most))
