"""Run the whole suite as four parallel runs, each with its own servers, so that they share nothing.

This is what `./dev.py test` without arguments calls. The first run prints as it goes, followed by the output
of the others and a summary of all failures. The exit status is 0 only if every run passed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

CHECKOUT = Path(__file__).resolve().parent.parent
ENGINE = ("tests/model_ops/recovery", "tests/attacks")
ATTACKS = ("tests/attacks/portal",)  # they need servers
WEIGHTS = ("tests/model_ops", "tests/clients", "tests/conformance")
LINES = 60  # the last lines of a failure
RUNS = {  # what each run takes, and what it leaves to the others
    "people and pages": (("tests",), (*ENGINE, *WEIGHTS)),
    "weights and clients": (WEIGHTS, ENGINE),
    "engine and attacks on it": (ENGINE, ATTACKS),
    "attacks on the portal": (ATTACKS, ()),
}


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopping this process stops all runs
    with ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in range(len(RUNS) - 1))]
        reports = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = [
            _pytest(*parts, output, reports / f"{number}.xml")
            for number, (parts, output) in enumerate(zip(RUNS.values(), outputs, strict=True))
        ]
        try:
            statuses = [run.wait() for run in runs]
        finally:
            for run in runs:
                run.send_signal(signal.SIGINT)
                run.wait()
        for output in filter(None, outputs):
            output.seek(0)
            sys.stdout.buffer.write(output.read())
        sys.stdout.flush()
        for report in sorted(reports.iterdir()):
            _print_failures(report)
    print("tests:", ", ".join(f"{name} {_word(status)}" for name, status in zip(RUNS, statuses, strict=True)))
    return max(map(abs, statuses))


def _pytest(
    taken: tuple[str, ...], left: tuple[str, ...], output: IO[bytes] | None, report: Path
) -> subprocess.Popen[bytes]:
    ignored = [f"--ignore={folder}" for folder in left]
    command = [sys.executable, "-P", "-m", "pytest", f"--junit-xml={report}", *taken, *ignored]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)


def _print_failures(report: Path) -> None:
    """Print the failures again: the middle of a long output may be cut off."""
    try:
        tests = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - our own file
    except ElementTree.ParseError:
        print(f"\n{report.name} was not written to its end")
        return
    for test in tests:
        for wrong in (*test.findall("failure"), *test.findall("error")):
            lines = (wrong.text or "").splitlines()[-LINES:]
            file = test.get("classname", "").replace(".", "/")
            print(f"\n{wrong.tag}: {file}.py::{test.get('name')}", *lines, sep="\n")


def _word(status: int) -> str:
    return "ok" if status == 0 else f"failed ({status})"


if __name__ == "__main__":
    sys.exit(main())
