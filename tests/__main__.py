"""The whole suite as two runs at once: the engine and the attacks on it need no server, so nothing is shared.

`./dev.py test` without arguments comes here. The first run prints as it goes, the other's output follows it; the status
is 0 only if both are well.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

CHECKOUT = Path(__file__).resolve().parent.parent
WITHOUT_SERVERS = ("tests/model_ops/recovery", "tests/attacks")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is told to end ends both
    with tempfile.TemporaryFile() as output:
        runs = [
            _pytest("tests", *(f"--ignore={folder}" for folder in WITHOUT_SERVERS)),
            _pytest(*WITHOUT_SERVERS, output=output),
        ]
        try:
            portal, engine = (run.wait() for run in runs)
        finally:
            for run in runs:
                run.send_signal(signal.SIGINT)
                run.wait()
        output.seek(0)
        sys.stdout.buffer.write(output.read())
    print(f"tests: portal {_word(portal)}, engine and attacks {_word(engine)}")
    return portal or engine


def _pytest(*arguments: str, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "pytest", *arguments]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)


def _word(status: int) -> str:
    return "ok" if status == 0 else f"failed ({status})"


if __name__ == "__main__":
    sys.exit(main())
