"""A live portal with few connections and short timeouts, and ways to make its statements wait."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from portal.database import budget
from tests.model_ops.hub.conftest import Portal, bare_portal, hub_environment
from tests.model_ops.hub.ways import beside

__all__ = ["bare_portal", "hub_environment"]

MODEL = "maker/slow"
OwnerOf = Callable[..., psycopg.Connection[Any]]


@pytest.fixture(scope="session")
def stocked(bare_portal: Portal) -> Portal:
    """Create a model with a file, a person with a grant, one with a request, and a reviewer with a token."""
    bare_portal.order("model", repo_id=MODEL)
    bare_portal.commit = bare_portal.order("commit", repo_id=MODEL, add={"a.txt": "YQ=="})["commit"]
    for name, state in (("granted", "granted"), ("pending", "pending"), ("decider", "decider")):
        made = bare_portal.order("person", name=f"slow-{name}", repo_id=MODEL, state=state)
        bare_portal.tokens[name] = made["token"]
    return bare_portal


@pytest.fixture(scope="session")
def impatient(stocked: Portal) -> Generator[Portal]:
    """Start a portal with few connections; statements end after two seconds, waits for a lock after one."""
    connections = {"GATEHOUSE_DATABASE_CONNECTIONS": str(budget.FEWEST)}
    with beside(stocked, GATEHOUSE_STATEMENT_SECONDS="2", **connections) as portal:
        yield portal


@pytest.fixture
def owner(stocked: Portal, owner_of: OwnerOf) -> Generator[psycopg.Connection[Any]]:
    """Connect to the portal's database as its owner; its locks are released at the end."""
    with owner_of(stocked.environment["DATABASE_URL"].rpartition("/")[2]) as connection:
        yield connection


@contextmanager
def locked(owner: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """Lock the table, so that no one else can read or write it."""
    with owner.transaction(force_rollback=True):
        owner.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def slowed(owner: psycopg.Connection[Any], table: str, seconds: float = 600) -> Iterator[None]:
    """Make statements that read a row sleep this many seconds; cancel those that still run at the end."""
    owner.execute(f"CREATE POLICY slow ON {table} USING (pg_sleep({seconds})::text = '')")
    owner.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    try:
        yield
    finally:
        _hasten(owner, table)


def _hasten(owner: psycopg.Connection[Any], table: str) -> None:
    """Cancel the sleeping statements until we hold the table's lock; until then new ones may start."""
    owner.execute("SET lock_timeout = '1s'")
    while True:
        owner.execute(f"SELECT pg_cancel_backend(pid) FROM ({SLEEPING}) AS sleeping")
        with suppress(psycopg.errors.LockNotAvailable):
            owner.execute(f"DROP POLICY IF EXISTS slow ON {table}")
            owner.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
            break
    owner.execute("RESET lock_timeout")


SLEEPING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
