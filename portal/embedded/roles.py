"""The two roles of the embedded database: its owner with a password, and the portal's, which owns nothing.

The password is in `STATE/pg/owner_password`. It is set while no server is listening, in single-user mode, and
only then are the rules written that require it: if this is interrupted, the next start does it again. So a
database of an earlier version, which trusted everyone who reached the socket as its superuser, is converted
by its next start.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from portal.embedded.binaries import PostgresPrograms
from portal.embedded.errors import StartError
from portal.embedded.identity import Identity
from portal.embedded.processes import open_log, wrapped
from portal.embedded.state import write_private

DATABASE = OWNER = "gatehouse"
PORTAL = "gatehouse_portal"
RULES = f"""# Written by Gatehouse at every start: what is changed here is lost.
local all {PORTAL} trust
local all {OWNER} scram-sha-256
"""
ATTRIBUTES = {  # which the portal's role must not have; listed here, since this module reads no settings
    "rolsuper": "NOSUPERUSER",
    "rolcreatedb": "NOCREATEDB",
    "rolcreaterole": "NOCREATEROLE",
    "rolreplication": "NOREPLICATION",
    "rolbypassrls": "NOBYPASSRLS",
}
NEW_ROLE = f"LOGIN {' '.join(ATTRIBUTES.values())}"


def password_file(state: Path) -> Path:
    """Return the path of the owner's password (mode 0600)."""
    return state / "pg" / "owner_password"


def owner_password(state: Path) -> str:
    """Return the owner's password, or "" before the first start."""
    with suppress(OSError):
        return password_file(state).read_text().strip()
    return ""


def owner_address(state: Path, portal_address: str) -> str:
    """Return the owner's address of the embedded database in `portal_address`; "" for any other database."""
    start = f"postgres://{PORTAL}@/"
    password = owner_password(state)
    if not password or not portal_address.startswith(start):
        return ""
    return f"postgres://{OWNER}:{password}@/{portal_address.removeprefix(start)}"


def close_to_owner(
    state: Path, data: Path, programs: PostgresPrograms, *, identity: Identity, log: Path
) -> None:
    """Make the server require the owner's password; called before its start. Raises `StartError`."""
    rules, written = data / "pg_hba.conf", ""
    if not owner_password(state):
        rules.unlink(missing_ok=True)  # first: without rules the next start sets the new password again
        folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        write_private(password_file(state), f"{secrets.token_urlsafe(32)}\n")
    with suppress(FileNotFoundError):
        written = rules.read_text()
    if written != RULES:
        _set_password(state, data, programs, identity=identity, log=log)
        write_private(rules, RULES)
    if identity.mode == "switch":
        os.chown(rules, identity.uid, identity.gid)


def _set_password(
    state: Path, data: Path, programs: PostgresPrograms, *, identity: Identity, log: Path
) -> None:
    """Set the password in single-user mode, which asks for none; this also recovers from a crash."""
    command = [
        *(str(programs.folder / "postgres"), "--single", "-D", str(data)),
        *(
            "-c",
            "password_encryption=scram-sha-256",
            "-c",
            "log_statement=none",
            "-c",
            "log_min_error_statement=panic",
        ),
        "postgres",
    ]
    statement = f"ALTER ROLE {OWNER} LOGIN PASSWORD '{owner_password(state)}'\n"
    with open_log(log) as output:
        start = output.tell()
        result = subprocess.run(
            wrapped(command, identity=identity, death_signal=signal.SIGKILL),
            input=statement.encode(), stdout=subprocess.DEVNULL, stderr=output, check=False, env=server_environment(), cwd="/",
        )  # fmt: skip
    said = log.read_bytes()[start:]
    if result.returncode != 0 or b"ERROR: " in said or b"FATAL: " in said:
        raise StartError(f"The database's owner could not be given a password: see {log}.")


def make_database(owner_dsn: str) -> None:
    """Create the portal's database and role if they are missing, and revoke rights the role must not have.

    Rights on tables are granted by `portal.database_rights`, after every migration.
    """
    import psycopg

    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [PORTAL]).fetchone()
        if known is None:
            connection.execute(f"CREATE ROLE {PORTAL} {NEW_ROLE}")
        for name in ("postgres", "template1"):
            question = "SELECT has_database_privilege(%s, %s, 'CONNECT')"
            if connection.execute(question, [PORTAL, name]).fetchone() == (True,):
                connection.execute(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC, {PORTAL}")


def server_environment() -> dict[str, str]:
    """Return the environment without the PG* variables of the caller, who may use another server by hand."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
