"""PostgreSQL on a private socket, without TCP, never as root."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from portal.database import budget
from portal.embedded.binaries import PostgresPrograms, postgres_programs
from portal.embedded.errors import StartError
from portal.embedded.identity import Identity, postgres_identity
from portal.embedded.processes import Child, running_in, stop_leftovers, wait_until, wrapped
from portal.embedded.roles import (
    DATABASE,
    OWNER,
    PORTAL,
    close_to_owner,
    make_database,
    owner_address,
    owner_password,
    server_environment,
)
from portal.embedded.state import SOCKET_PATH_LIMIT, socket_folder, write_private

READY_LINE = 7  # of postmaster.pid: "ready" once connections are accepted
UNSAFE_AND_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class Postgres:
    """The database server of one state folder.

    Its files are in ``STATE/pg``. If root may not create a user namespace, they are outside, together with
    programs and socket, in a folder of the user ``nobody``, whose path is in ``STATE/pg/home.json``.
    """

    def __init__(self, state: Path, *, fsync: bool = True, connections: int = budget.TOTAL) -> None:
        self.state, self.fsync = state, fsync
        self.most_connections = connections + budget.SPARE
        self.identity = postgres_identity()
        self.child: Child | None = None
        (state / "pg").mkdir(mode=0o700, exist_ok=True)
        if self.identity.mode == "switch":
            self.home = _make_outside_home(state, self.identity)
            self.sockets = _make_private(self.home / "run", self.identity)
        else:
            self.home = state / "pg"
            self.sockets = socket_folder(state)
            _bring_home(state)
        self.data = self.home / "data"
        self.log = state / "logs" / "postgres.log"

    @property
    def url(self) -> str:
        """Return the portal's address for Django's settings, with the socket's folder in place of a path."""
        return f"postgres://{PORTAL}@/{self.sockets}/{DATABASE}"

    @property
    def dsn(self) -> str:
        """Return the same address for psycopg and ``psql``."""
        return f"postgres://{PORTAL}@/{DATABASE}?host={self.sockets}"

    @property
    def owner_url(self) -> str:
        """Return the owner's address, as `url`; only for migrations."""
        return owner_address(self.state, self.url)

    def owner_dsn(self, database: str = DATABASE) -> str:
        """Return the owner's address of one database of this server, as `dsn`."""
        return f"postgres://{OWNER}:{owner_password(self.state)}@/{database}?host={self.sockets}"

    def start(self) -> None:
        """Stop servers left running on the data folder, create it if it is new, and start the server."""
        self.clear_leftovers()
        version = self.data / "PG_VERSION"
        programs = postgres_programs(major=int(version.read_text()) if version.exists() else None)
        if self.identity.mode == "switch":
            folder = _make_private(self.home / "programs", self.identity)
            programs = programs.copied_to(folder / str(programs.major))
        if not version.exists():
            self._make_data_folder(programs)
        close_to_owner(self.state, self.data, programs, identity=self.identity, log=self.log)
        options = [
            "listen_addresses=", f"unix_socket_directories={self.sockets}", "unix_socket_permissions=0700",
            f"max_connections={self.most_connections}", "logging_collector=off", "log_destination=stderr", "log_timezone=UTC", "timezone=UTC",
            *([] if self.fsync else UNSAFE_AND_QUICK),
        ]  # fmt: skip
        command = [str(programs.folder / "postgres"), "-D", str(self.data)]
        for option in options:
            command += ["-c", option]
        # SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one. The first is sent when we die.
        self.child = Child(
            "postgres", command, log=self.log, env=server_environment(), identity=self.identity,
            stop_signals=(signal.SIGINT,),
        )  # fmt: skip

    def wait_ready(self) -> None:
        """Return once connections are accepted and our database exists."""
        assert self.child is not None  # noqa: S101 - start() comes first
        wait_until(self._is_ready, self.child, what="PostgreSQL")
        make_database(self.owner_dsn("postgres"))

    def stop(self) -> None:
        """Shut down fast, and after some seconds immediately; the next start recovers from that."""
        if self.child is not None:
            self.child.ask_to_stop(signal.SIGINT)
            if not self.child.wait(3):
                self.child.ask_to_stop(signal.SIGQUIT)
                self.child.wait(1)
            self.child.stop(patience=0)
            self.child = None

    def clear_leftovers(self) -> None:
        """Stop servers that an earlier supervisor left running; remove the files of those that are gone."""
        if self.data.is_dir():
            stop_leftovers(self._running_servers, signals=(signal.SIGINT, signal.SIGQUIT))
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self.sockets / name).unlink(missing_ok=True)

    def _running_servers(self) -> list[int]:
        return running_in(self.data, ("postgres",))

    def _is_ready(self) -> bool:
        with suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return len(lines) > READY_LINE and lines[READY_LINE].strip() == "ready"
        return False

    def _make_data_folder(self, programs: PostgresPrograms) -> None:
        """Run initdb in a temporary folder and rename it, so that an interrupted run is simply repeated."""
        partial = self.home / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        _make_private(partial, self.identity)
        # The built-in collation folds case in every script; before version 17 only libc's collations do.
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if programs.major >= 17
            else ["--locale=C.UTF-8"]
        )
        command = [
            str(programs.folder / "initdb"), "-D", str(partial), "-U", OWNER, "--encoding=UTF8", *locale,
            "--auth-local=reject", "--auth-host=reject", "--no-instructions",
            *([] if self.fsync else ["--no-sync"]),
        ]  # fmt: skip
        result = subprocess.run(
            wrapped(command, identity=self.identity, death_signal=signal.SIGKILL),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env=server_environment(), cwd="/",
        )  # fmt: skip
        if result.returncode != 0:
            lines = [line for line in result.stderr.splitlines() if line.strip()] or ["it said nothing"]
            raise StartError(f"PostgreSQL could not make its data folder: {lines[0].strip()}.")
        partial.rename(self.data)


def _make_private(folder: Path, identity: Identity) -> Path:
    """Make `folder` private to the user of `identity`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if identity.mode == "switch":
        os.chown(folder, identity.uid, identity.gid)
    return folder


def outside_home(state: Path) -> Path | None:
    """Return the folder of ``nobody`` that belongs to this state folder, if there ever was one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return Path(json.loads((state / "pg" / "home.json").read_text())["home"])
    return None


def _make_outside_home(state: Path, identity: Identity) -> Path:
    """Return the recorded folder of ``nobody``, or a new one; move a database from the state folder there."""
    home = outside_home(state)
    if home is None or not home.is_dir():
        home = _new_outside_home(state)
        os.chown(home, identity.uid, identity.gid)
        write_private(state / "pg" / "home.json", json.dumps({"home": str(home)}))
    inside = state / "pg" / "data"
    if inside.is_dir() and not (home / "data").exists():
        _move_data(inside, home / "data", identity.uid, identity.gid)
    return home


def _bring_home(state: Path) -> None:
    """Move a database that was outside back into the state folder once user namespaces are allowed."""
    home = outside_home(state)
    if home is not None and (home / "data").is_dir() and not (state / "pg" / "data").exists():
        stop_leftovers(
            lambda: running_in(home / "data", ("postgres",)), signals=(signal.SIGINT, signal.SIGQUIT)
        )
        _move_data(home / "data", state / "pg" / "data", os.geteuid(), os.getegid())
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)
        (state / "pg" / "home.json").unlink(missing_ok=True)


def _move_data(source: Path, target: Path, uid: int, gid: int) -> None:
    """Move a data folder and give it to another user; repeat a copy that was cut short."""
    partial = target.with_name(target.name + ".moving")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, symlinks=True)
    for path in [partial, *partial.rglob("*")]:
        os.chown(path, uid, gid, follow_symlinks=False)
    partial.rename(target)
    shutil.rmtree(source)


def _new_outside_home(state: Path) -> Path:
    """Create a folder that everyone may enter and no clean-up deletes.

    For a temporary state folder it is temporary too.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    lasting = [] if state.is_relative_to(temporary) else [Path("/var/lib"), Path("/var/tmp")]  # noqa: S108
    for parent in [*lasting, temporary, Path("/tmp")]:  # noqa: S108 - mkdtemp makes it private
        with suppress(OSError):
            if len(str(parent)) + 40 < SOCKET_PATH_LIMIT and all(
                folder.stat().st_mode & 0o001 for folder in [parent, *parent.parents]
            ):
                return Path(tempfile.mkdtemp(prefix="gatehouse-", dir=parent))
    raise StartError("Found no folder that the user nobody may enter: start Gatehouse as an ordinary user.")
