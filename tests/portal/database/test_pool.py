"""A draining process closes most of its pool's connections and answers with the few that are left."""

from __future__ import annotations

from collections.abc import Generator

import psycopg
import pytest
from django.db import connection

from portal.database.pool import Pool
from tests.waiting import wait_until


@pytest.fixture
def pool(db: None) -> Generator[Pool]:
    """Return a pool of four connections with its own application name."""
    parameters = connection.get_connection_params() | {"application_name": "shrinks", "autocommit": True}
    parameters.pop("cursor_factory", None)
    parameters.pop("context", None)
    made = Pool(size=4, most_waiting=4, kwargs=parameters)
    made.open()
    yield made
    made.close()


def connected(by: psycopg.Connection) -> int:
    """Return how many connections with that name the server has."""
    row = by.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shrinks'").fetchone()
    assert row is not None
    return int(row[0])


def test_pool_that_shrinks_closes_idle_connections_at_once_and_others_as_they_come_back(pool: Pool) -> None:
    taken = [pool.getconn(60) for _ in range(4)]
    pool.putconn(taken.pop())
    assert connected(taken[0]) == 4
    pool.shrink(2)
    wait_until(lambda: connected(taken[0]) == 3)
    pool.putconn(taken.pop())
    wait_until(lambda: connected(taken[0]) == 2)
    pool.putconn(taken.pop())
    again = [taken.pop(), pool.getconn(60)]
    assert connected(again[0]) == 2
    with pytest.raises(psycopg.OperationalError):
        pool.getconn(0.1)
    for each in again:
        pool.putconn(each)
    assert pool.max_size == 2
