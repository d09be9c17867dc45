"""Run a child process that dies with us, reports in lines of JSON, and is killed first if memory runs out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from django.conf import settings

from model_ops.child_environment import ENGINE, chosen
from model_ops.recovery.workdir.output import PRIVATE

# This becomes the command after it ties its life to ours; exec keeps the death signal. Setting it between fork and
# exec would run Python code in a forked copy of a process with threads.
TIE = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("900")
    except OSError:
        pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(125)
os.execv(sys.argv[2], sys.argv[2:])
"""
KEPT_LINES = 40


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    `status` is negative for a signal; `last_words` is the last line on its standard error, `result` the last
    object on its standard output that is not a progress report.
    """

    status: int
    stopped: bool
    last_words: str
    result: dict[str, Any] = field(default_factory=dict)


def run_child(
    *,
    arguments: list[str],
    on_progress: Callable[[dict[str, Any]], None],
    stop: threading.Event,
    allowed: Sequence[str] = ENGINE,
    environment: dict[str, str] | None = None,
    told: str = "",
    pass_fds: tuple[int, ...] = (),
) -> Ended:
    """Run `python ARGUMENTS` to its end, or kill it if `stop` is set or we are interrupted.

    Objects with `bytes_done` on its standard output go to `on_progress`. It gets our `allowed` variables (by
    default the engine's) and `environment`, and no secret of the portal. It reads `told` from its standard input, where
    no process list and no other process can see it.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", TIE, str(os.getpid()), sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=chosen(allowed, os.environ) | {"PYTHONUNBUFFERED": "1", PRIVATE: "1"} | (environment or {}),
        umask=0o077,
        cwd=settings.CHECKOUT,
        pass_fds=pass_fds,
    )
    words: deque[str] = deque(maxlen=KEPT_LINES)
    results: deque[dict[str, Any]] = deque([{}], maxlen=1)
    readers = [
        threading.Thread(target=_read_objects, args=(process.stdout, on_progress, results), daemon=True),
        threading.Thread(target=_keep_last_words, args=(process.stderr, words), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        _write_input(process.stdin, told)
        while process.poll() is None and not stop.wait(0.1):
            pass
    finally:
        stopped = process.poll() is None
        if stopped:
            process.kill()
        process.wait()
        for reader in readers:
            reader.join(timeout=5)
    return Ended(process.returncode, stopped, words[-1] if words else "", results[0])


def _write_input(stream: IO[str] | None, told: str) -> None:
    """Write to the child's standard input: the text fits in a pipe, so this never blocks, even if it is never read."""
    assert stream is not None  # noqa: S101 - we asked for a pipe
    with suppress(BrokenPipeError), stream:
        stream.write(told)


def _read_objects(
    stream: IO[str], on_progress: Callable[[dict[str, Any]], None], results: deque[dict[str, Any]]
) -> None:
    with stream:
        for line in stream:
            try:
                found = json.loads(line) if line.lstrip().startswith("{") else None
            except ValueError:
                continue
            if not isinstance(found, dict):
                continue
            if "bytes_done" in found:
                on_progress(found)
            elif found:
                results.append(found)


def _keep_last_words(stream: IO[str], words: deque[str]) -> None:
    with stream:
        words.extend(line.strip() for line in stream if line.strip())
