"""Django's backend for PostgreSQL, with this process's limits and pool. The setting ENGINE names this package."""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import cache
from typing import Any

from django.conf import settings
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import BaseTzLoader
from psycopg.adapt import AdaptersMap

from portal.database import budget, kinds
from portal.database.pool import CONNECT_WITHIN, Pool

LONGER = """
    SELECT set_config(name, value, true)
    FROM unnest(%s::text[], %s::text[]) AS wanted(name, value)
"""
# A command with many threads uses more connections than `budget` counts for it, as a single command may.
OF_A_COMMAND = 24
MOST_WAITING_ELSEWHERE = 100  # in effect no limit: only web processes can answer with a refusal


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection with the limits of this kind of process; `OPTIONS["pool"]` makes it come from a pool."""

    _connection_pools: dict[str, Pool]  # Django's own, of all connections of this process

    def get_connection_params(self) -> dict[str, Any]:
        """Return libpq's parameters: the limits of this kind of process, then the operator's own options."""
        parameters = super().get_connection_params()
        options = f"{kinds.current().options} {parameters.get('options') or ''}".strip()
        if options:
            parameters["options"] = options
        if kinds.current() is not kinds.COMMAND:
            parameters.setdefault("connect_timeout", CONNECT_WITHIN)
        parameters["context"] = adapters(parameters["context"], self.timezone)
        return parameters

    @property
    def pool(self) -> Pool | None:
        """Return the process's pool, or None if the settings turn it off, as for the owner's connection."""
        if self.alias == NO_DB_ALIAS or not self.settings_dict["OPTIONS"].get("pool"):
            return None
        if self.alias not in self._connection_pools:
            size, most_waiting = pool_size()
            made = Pool(
                size=size,
                most_waiting=most_waiting,
                kwargs=self.get_connection_params() | {"autocommit": True},
                configure=self._configure_connection,  # type: ignore[attr-defined]
            )
            self._connection_pools.setdefault(self.alias, made)
        return self._connection_pools[self.alias]

    def be_patient(self) -> None:
        """Let this transaction of a web process take as long as a worker's.

        Other processes have no shorter limits.
        """
        if kinds.current().name != kinds.WEB.name:
            return
        limits = kinds.PATIENT.limits
        with self.cursor() as cursor:
            cursor.execute(LONGER, [list(limits), [f"{seconds}s" for seconds in limits.values()]])
        self.connection.answer_within = None  # until the connection goes back to the pool


@cache
def adapters(known: AdaptersMap, zone: tzinfo | None) -> AdaptersMap:
    """Return Django's adapters with a faster loader for timestamps.

    It takes a microsecond, a tenth of psycopg's time.
    """

    class Moments(BaseTzLoader):  # type: ignore[misc]
        timezone = zone  # Django compares it with its own

        def load(self, data: Any) -> datetime:
            try:
                read = datetime.fromisoformat(bytes(data).decode())
            except ValueError:  # a year that Python cannot represent
                loaded: datetime = super().load(data)
                return loaded
            return read.astimezone(zone) if zone else read.replace(tzinfo=None)

    found = AdaptersMap(known)
    found.register_loader("timestamptz", Moments)
    return found


def pool_size() -> tuple[int, int]:
    """Return how many connections this process may hold, and how many threads may wait in a stuck line."""
    kind = kinds.current()
    if kind.name == kinds.WEB.name:
        share = budget.pool_of_web(settings.GATEHOUSE_DATABASE_CONNECTIONS, settings.GATEHOUSE_WEB_PROCESSES)
        return share, budget.WAITING
    if kind is kinds.WORKER:
        return budget.OF_A_WORKER, MOST_WAITING_ELSEWHERE
    return OF_A_COMMAND, MOST_WAITING_ELSEWHERE
