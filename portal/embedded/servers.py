"""PostgreSQL and Valkey of one state folder."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portal.database import budget
from portal.embedded.postgres import Postgres, outside_home
from portal.embedded.state import StateLock, prepare_state, short_socket_folder
from portal.embedded.valkey import Valkey

PAUSE = 5.0  # seconds between restarts of a server


@dataclass(frozen=True)
class ServerUrls:
    """The servers' addresses, as ``DATABASE_URL`` and ``REDIS_URL``; `dsn` is the former for psycopg."""

    database_url: str
    redis_url: str
    dsn: str = ""


class EmbeddedServers:
    """Both servers, or only one if the caller has their own for the other."""

    def __init__(
        self,
        state: Path,
        *,
        fsync: bool = True,
        database_url: str = "",
        redis_url: str = "",
        connections: int = budget.TOTAL,
    ) -> None:
        self.postgres = None if database_url else Postgres(state, fsync=fsync, connections=connections)
        self.valkey = None if redis_url else Valkey(state, fsync=fsync)
        self.urls = ServerUrls(
            database_url or (self.postgres.url if self.postgres else ""),
            redis_url or (self.valkey.url if self.valkey else ""),
            database_url or (self.postgres.dsn if self.postgres else ""),
        )
        self._not_before: dict[Postgres | Valkey, float] = {}

    @property
    def own(self) -> list[Postgres | Valkey]:
        """Return the servers that are ours to start and stop.

        Valkey is first: it starts while PostgreSQL creates its folder.
        """
        return [server for server in (self.valkey, self.postgres) if server is not None]

    def start(self) -> None:
        """Start both at once; return when both answer."""
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        for server in self.own:
            server.start()

    def wait_ready(self) -> None:
        for server in self.own:
            server.wait_ready()

    def restart(self, server: Postgres | Valkey) -> bool:
        """Restart a server that died, at most every `PAUSE` seconds; return True if it was started.

        Does not wait until it answers: a database may take long to recover from its crash, and all else keeps
        running in the meantime.
        """
        if (
            server.child is None
            or server.child.alive()
            or time.monotonic() < self._not_before.get(server, 0.0)
        ):
            return False
        self._not_before[server] = time.monotonic() + PAUSE
        server.start()
        return True

    def stop(self) -> None:
        for server in self.own:
            if server.child is not None:
                server.child.ask_to_stop()
        for server in self.own:
            server.stop()


@contextmanager
def embedded_servers(
    state: Path, *, fsync: bool = True, purpose: str = "another command", wait: float = 0.0
) -> Iterator[EmbeddedServers]:
    """Run both servers on `state`, under its lock, and yield the pair (to stop and start one separately).

    Raises `StartError` with a sentence if the folder is in use (after `wait` seconds) or a server fails.
    """
    state = prepare_state(state)
    with StateLock(state, purpose=purpose, wait=wait):
        pair = EmbeddedServers(state, fsync=fsync)
        try:
            pair.start()
            yield pair
        finally:
            pair.stop()


@contextmanager
def servers(state: Path, *, fsync: bool = True) -> Iterator[ServerUrls]:
    """Run both servers on `state` and yield their addresses."""
    with embedded_servers(state, fsync=fsync) as pair:
        yield pair.urls


def wipe_servers(state: Path) -> None:
    """Remove database and broker of `state`, including files outside of it; refuse while they are running."""
    state = prepare_state(state)
    with StateLock(state, purpose="a clean-up"):
        for server in EmbeddedServers(state).own:
            server.clear_leftovers()
        for outside in (outside_home(state), short_socket_folder(state)):
            if outside is not None:
                shutil.rmtree(outside, ignore_errors=True)
        for name in ("pg", "valkey"):
            shutil.rmtree(state / name, ignore_errors=True)
