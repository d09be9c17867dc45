"""`./dev.py bench scale --requests N`: a portal with N requests in a database, and how long pages, lists and tasks take there."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from portal.embedded.prepare import CHECKOUT
from portal.embedded.servers import embedded_servers
from portal.embedded.state import prepare_state
from portal.embedded.supervisor import run_portal
from portal.parts import OWNER_DATABASE
from tests.bench.errors import BenchError
from tests.bench.scale.load import under_load
from tests.bench.scale.measure import measure
from tests.bench.scale.table import as_text
from tests.bench.site import temporary_state

NO_RATES = {"GATEHOUSE_TOKEN_RATE": "0", "GATEHOUSE_ADDRESS_RATE": "0", "GATEHOUSE_ANONYMOUS_RATE": "0"}
NOTE = "bench-scale.json"  # describes what a filled state folder contains


def main(arguments: list[str]) -> int:
    """Fill a database and measure; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="./dev.py bench scale", description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=1000, help="requests in the database, at least 200 (1000)"
    )
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="an empty folder for the portal; it is kept"
    )
    parser.add_argument(
        "--seeded", type=Path, metavar="DIR", help="a folder that an earlier run filled with --state"
    )
    parser.add_argument("--seed-only", action="store_true", help="fill the database and measure nothing")
    parser.add_argument(
        "--no-verify", action="store_true", help="leave out the check of the event log, which takes minutes"
    )
    parser.add_argument(
        "--people", type=int, default=0, help="play so many people at once instead of the table"
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long they are played")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    chosen = parser.parse_args(arguments)
    if chosen.requests < 200:
        raise BenchError("Give at least 200 requests: fewer show nothing.")
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL", OWNER_DATABASE):
        os.environ.pop(name, None)
    with _folder(chosen) as state:
        if chosen.seeded is None:
            seed(state, chosen.requests)
        return 0 if chosen.seed_only else _measured(state, chosen)


def _measured(state: Path, chosen: argparse.Namespace) -> int:
    with run_portal(state, extra_env=NO_RATES) as portal:
        if chosen.people:
            return int(not under_load(portal, people=chosen.people, minutes=chosen.minutes))
        rows = measure(portal, verify=not chosen.no_verify)
    print(as_text(rows), flush=True)
    missed = sum(row.missed for row in rows)
    print(
        f"{missed} of {len(rows)} lines missed their limit" if missed else "every limit is kept", flush=True
    )
    if chosen.json:
        chosen.json.write_text(
            json.dumps([asdict(replace(row, headers=None)) for row in rows], indent=1) + "\n"
        )
    return int(bool(missed))


@contextmanager
def _folder(chosen: argparse.Namespace) -> Iterator[Path]:
    """Return the state folder: one already filled, an empty one that is kept, or a temporary one."""
    if chosen.seeded is not None:
        if not (chosen.seeded / NOTE).is_file():
            raise BenchError(f"{chosen.seeded} was not filled by bench scale: run it with --state first.")
        yield chosen.seeded.resolve()
    elif chosen.state is not None:
        yield empty_folder(chosen.state)
    else:
        with temporary_state() as state:
            yield state


def empty_folder(folder: Path) -> Path:
    """Return the folder if it is empty or missing; refuse one with a portal or anything else in it."""
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is not a folder: name an empty one, or one that is not there.")
    if folder.is_dir() and any(folder.iterdir()):
        what = "holds a portal" if (folder / "pg").exists() else "is not empty"
        raise BenchError(f"{folder} {what}: bench scale fills an empty folder only, so name another.")
    return folder.absolute()


def seed(state: Path, requests: int) -> dict[str, Any]:
    """Create a portal in the folder and fill its database; return its contents and how long that took."""
    began = time.perf_counter()
    environment = os.environ | {
        "GATEHOUSE_STATE": str(prepare_state(state)),
        "GATEHOUSE_URL": "http://127.0.0.1:8000",
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PYTHONPATH": str(CHECKOUT),
    }
    migrate = [sys.executable, "-m", "portal.embedded", "manage", "migrate", "--verbosity", "0"]
    if subprocess.run(migrate, env=environment, cwd=CHECKOUT, check=False).returncode:
        raise BenchError("The database could not be migrated; the reason stands above.")
    with embedded_servers(state, fsync=False, purpose="a benchmark") as pair:
        assert pair.postgres is not None
        urls = {"DATABASE_URL": pair.urls.database_url, "REDIS_URL": pair.urls.redis_url}
        command = [sys.executable, "-m", "tests.bench.scale.seed", str(requests), pair.postgres.owner_dsn()]
        done = subprocess.run(
            command, env=environment | urls, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        raise BenchError("The database could not be filled; the reason stands above.")
    os.sync()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found |= {"requests": requests, "total": round(time.perf_counter() - began, 1)}
    (state / NOTE).write_text(json.dumps(found, indent=1) + "\n")
    counted = ", ".join(f"{number:,} {name}" for name, number in found["counts"].items())
    print(f"filled in {found['total']} s: {counted}", flush=True)
    return found
