"""`./dev.py manage`: Django's command line, with servers to run it on."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from portal.database import budget
from portal.embedded.errors import StartError
from portal.embedded.prepare import migrate, migrated
from portal.embedded.roles import owner_address
from portal.embedded.servers import EmbeddedServers
from portal.embedded.state import Running, StateLock, lock_holder
from portal.parts import OWNER_DATABASE
from portal.private import keep_private

T = TypeVar("T")
NEED_NO_SERVERS = {
    "", "help", "-h", "--help", "version", "--version", "makemessages", "compilemessages", "collectstatic",
    "findstatic", "makemigrations",
}  # fmt: skip
NEED_THE_OWNER = {"migrate"}
NEED_NO_SCHEMA = {"migrate", "showmigrations", "sqlmigrate", "dbshell", "check", "diffsettings"}


def run_command(state: Path, arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Our own messages go to standard error, never to its output.
    """
    name = arguments[0] if arguments else ""
    os.environ["GATEHOUSE_STATE"] = str(state)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    if name in NEED_NO_SERVERS or {"-h", "--help"} & set(arguments):
        _set_defaults(
            {
                "DATABASE_URL": "postgres://gatehouse@//nonexistent/gatehouse",
                "REDIS_URL": "unix:///nonexistent",
            }
        )
        return _run_django(arguments)
    keep_private()
    with _servers_known(state) as dsn:
        if dsn and name not in NEED_NO_SCHEMA and not migrated(state, dsn):
            with _owner_known(state):
                _refusing_in_one_sentence(lambda: migrate(state, dsn))
        with _owner_known(state) if name in NEED_THE_OWNER else nullcontext():
            return _run_django(arguments)


@contextmanager
def _owner_known(state: Path) -> Iterator[None]:
    """Set the owner's address of the embedded database in the environment for the block.

    If the database is not ours, its owner's address is already set.
    """
    address = owner_address(state, os.environ["DATABASE_URL"])
    if not address:
        yield
        return
    before = os.environ.pop(OWNER_DATABASE, "")
    os.environ[OWNER_DATABASE] = address
    try:
        yield
    finally:
        os.environ[OWNER_DATABASE] = before


@contextmanager
def _servers_known(state: Path) -> Iterator[str]:
    """Set the servers' addresses in the environment for the block.

    They are given ones, a running portal's, or those of servers started here. Yields the database's address
    for psycopg if it was started here. If another command is using the folder, wait for it.
    """
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        yield ""
        return
    lock = StateLock(state, purpose="./dev.py manage")
    told = False
    while not lock.acquire():
        running = Running.load(state)
        if running is not None:
            _set_defaults(running.environment)
            yield ""
            return
        if not told:
            print(f"Waiting for {lock_holder(state)} on {state}", file=sys.stderr)
            told = True
        time.sleep(0.1)
    pair: EmbeddedServers | None = None
    try:
        pair = EmbeddedServers(
            state,
            database_url=os.environ.get("DATABASE_URL", ""),
            redis_url=os.environ.get("REDIS_URL", ""),
            connections=budget.total(os.environ),
        )
        pair.start()
        _set_defaults({"DATABASE_URL": pair.urls.database_url, "REDIS_URL": pair.urls.redis_url})
        yield pair.urls.dsn if pair.postgres else ""
    finally:
        if pair is not None:
            pair.stop()
        lock.release()


def _set_defaults(values: Mapping[str, str]) -> None:
    """Set variables that are not set yet: the person's own values win."""
    for name, value in values.items():
        if not os.environ.get(name):
            os.environ[name] = value


def _run_django(arguments: list[str]) -> int:
    """Run Django's command line in this process and return the command's exit status."""
    from django.core.management import execute_from_command_line

    def run() -> int:
        try:
            execute_from_command_line(["./dev.py manage", *arguments])
        except SystemExit as leaving:
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
                return 1
            return leaving.code or 0
        return 0

    return _refusing_in_one_sentence(run)


def _refusing_in_one_sentence(action: Callable[[], T]) -> T:
    """Run `action`; turn a setting that Django cannot read into one sentence instead of a traceback."""
    from django.core.exceptions import ImproperlyConfigured

    try:
        return action()
    except ImproperlyConfigured as refusal:
        raise StartError(str(refusal)) from None
