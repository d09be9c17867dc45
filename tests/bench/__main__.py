"""The command line behind `./dev.py bench`."""

from __future__ import annotations

import importlib
import signal
import sys

from tests.bench.errors import BenchError

NAMED = {
    "recovery": "tests.bench.recovery.cli",
    "delivery": "tests.bench.delivery",
    "attacks": "tests.bench.attacks",
    "decisions": "tests.bench.decisions",
    "slow-input": "tests.bench.slow_input",
    "scale": "tests.bench.scale.cli",
}


def main(arguments: list[str]) -> int:
    """Run one benchmark; return the exit status."""
    # Remove what was created for measuring then, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _measure(arguments)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _measure(arguments: list[str]) -> int:
    """Import and run a benchmark: the site needs the whole portal, the engine none of it."""
    if not arguments:
        from tests.bench.site import measure_site

        return measure_site()
    if arguments[0] not in NAMED:
        known = ", ".join(f"bench {name}" for name in NAMED)
        raise BenchError(f"bench does not know {arguments[0]!r}; say bench, {known}.")
    measured: int = importlib.import_module(NAMED[arguments[0]]).main(arguments[1:])
    return measured


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
