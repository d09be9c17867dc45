"""The whole suite as two runs at once: the engine and the attacks on it need no server, so nothing is shared.

`./dev.py test` without arguments comes here. The first run prints as it goes, the other's output follows it; the status
is 0 only if both are well.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
WITHOUT_SERVERS = ("tests/model_ops/recovery", "tests/attacks")
PYTEST = (sys.executable, "-P", "-m", "pytest")


def main() -> int:
    ignored = [f"--ignore={folder}" for folder in WITHOUT_SERVERS]
    with tempfile.TemporaryFile() as output:
        engine = subprocess.Popen([*PYTEST, *WITHOUT_SERVERS], cwd=CHECKOUT, stdout=output, stderr=output)
        try:
            portal = subprocess.run([*PYTEST, "tests", *ignored], cwd=CHECKOUT, check=False).returncode
            recovery = engine.wait()
        except BaseException:
            engine.terminate()
            engine.wait()
            raise
        output.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(output.read())
    sys.stdout.write(f"tests: portal {_word(portal)}, engine and attacks {_word(recovery)}\n")
    return portal or recovery


def _word(status: int) -> str:
    return "ok" if status == 0 else f"failed ({status})"


if __name__ == "__main__":
    sys.exit(main())
