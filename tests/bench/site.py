"""`./dev.py bench`: start times, page times and the recovery engine's rate on this machine.

Works in a temporary state folder and only on loopback. A running portal is not touched, but it and everything
else on the machine affects the figures.
"""

import http.client
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from portal.embedded.errors import StartError
from portal.embedded.servers import wipe_servers
from portal.embedded.supervisor import run_portal
from tests.bench.errors import BenchError
from tests.bench.recovery.engine import make_diff, recover
from tests.bench.recovery.sets import ensure_set

REQUESTS = 200


def measure_site() -> int:
    """Print one line per figure; return the exit status."""
    try:
        _measure()
    except StartError as error:
        raise BenchError(str(error)) from error
    return 0


def _measure() -> None:
    with temporary_state() as state:
        with _portal(state, "portal, new state folder, until ready"):
            pass
        with _portal(state, "portal, existing state folder, until ready") as address:
            for path in ("/", "/healthz"):
                _say(f"GET {path}, median and 95th percentile", _page_times(address, path))
        if find_spec("torch") is None:
            _say("recovery engine", "torch is not installed here")
        else:
            _engine(state / "engine")


@contextmanager
def temporary_state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as folder:
        state = Path(folder) / "state"
        yield state
        wipe_servers(state)


@contextmanager
def _portal(state: Path, what: str) -> Iterator[str]:
    """Run a portal on a free port, ignoring servers named in the caller's environment."""
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL"):
        os.environ.pop(name, None)
    started = time.perf_counter()
    with run_portal(state) as portal:
        _say(what, f"{time.perf_counter() - started:.2f} s")
        yield portal.address


def _page_times(address: str, path: str) -> str:
    """Time pages one after another on one connection."""
    seconds = []
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as connection:
        for _ in range(REQUESTS):
            started = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            seconds.append(time.perf_counter() - started)
    return (
        f"{1000 * statistics.median(seconds):.1f} ms, {1000 * sorted(seconds)[int(REQUESTS * 0.95)]:.1f} ms"
    )


def _engine(folder: Path) -> None:
    """Time recover and make_diff on the small set; `./dev.py bench recovery` measures more carefully."""
    weights = ensure_set(folder, "small")
    recovered = recover(weights)
    made = make_diff(weights, folder / "diff")
    for what, run in {"recover": recovered, "make_diff": made}.items():
        rate = run.said["bytes_written"] / run.seconds
        _say(f"{what}, small set", f"{run.seconds:.2f} s, {rate / 1e6:.0f} MB of result a second")


def _say(what: str, figure: str) -> None:
    print(f"{what}: {figure}", flush=True)
