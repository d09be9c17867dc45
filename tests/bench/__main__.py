"""The command line behind `./dev.py bench`."""

from __future__ import annotations

import signal
import sys

from tests.bench.errors import BenchError


def main(arguments: list[str]) -> int:
    """Runs one benchmark; returns the exit status."""
    # What was made for measuring is removed then, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _measure(arguments)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _measure(arguments: list[str]) -> int:
    """The site needs the whole portal, the engine nothing of it, so each is imported where it is wanted."""
    if arguments[:1] == ["recovery"]:
        from tests.bench.recovery.cli import main as measure_recovery

        return measure_recovery(arguments[1:])
    if arguments[:1] == ["delivery"]:
        from tests.bench.delivery import main as measure_delivery

        return measure_delivery(arguments[1:])
    if arguments[:1] == ["attacks"]:
        from tests.bench.attacks import main as measure_attacks

        return measure_attacks(arguments[1:])
    if arguments:
        raise BenchError(
            f"bench does not know {arguments[0]!r}; say bench, bench recovery, bench delivery or bench attacks."
        )
    from tests.bench.site import measure_site

    return measure_site()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
