"""What the portal's database role may do, and how `migrate` applies it.

The owner's role creates and changes tables, and only migrate uses it. The portal's role reads and writes
rows, with fewer rights where rows are evidence. `access_requests.services.event_log.protection` checks the
result in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from portal import environment
from portal.embedded.roles import ATTRIBUTES, NEW_ROLE
from portal.parts import OWNER_DATABASE

EVERY_TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE")
TABLES: dict[str, tuple[str, ...]] = {  # one that does not exist (yet) is skipped
    "access_requests_event": ("SELECT", "INSERT"),
    "access_requests_eventtext": ("SELECT", "INSERT"),
    "access_requests_eventlink": ("SELECT",),  # rows come from a trigger that runs as the owner
    "access_requests_eventtolink": (),  # the same
    "access_requests_licenceacceptance": ("SELECT", "INSERT"),
    "access_requests_licenceversion": ("SELECT", "INSERT", "UPDATE (retired_at, must_accept_at)"),
    "access_requests_message": ("SELECT", "INSERT"),
    "access_requests_submission": ("SELECT", "INSERT"),
    "access_requests_vote": ("SELECT", "INSERT", "UPDATE (ended_at)"),
    "django_migrations": ("SELECT",),
}
SEQUENCES = ("USAGE", "SELECT")
FUNCTIONS: tuple[str, ...] = ()  # functions of this project that the portal may call; triggers need no rights


@contextmanager
def as_owner(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Make `connection` the owner's while the block runs, and yield the name of the portal's role.

    The name is "" if one role is both, because `GATEHOUSE_OWNER_DATABASE_URL` is not set. A connection of a
    user that `DATABASE_URL` does not name (in a test run) counts as the owner's. The database stays the same.
    """
    portal, owner = environment.database(), environment.owner_database()
    settings = connection.settings_dict
    if not owner:
        yield str(portal["USER"]) if settings["USER"] != portal["USER"] else ""
        return
    empty: dict[str, object] = {"USER": "", "PASSWORD": "", "HOST": "", "PORT": "", "OPTIONS": {}}
    before = {name: settings[name] for name in empty}
    _reconnect_with(connection, {name: owner.get(name) or nothing for name, nothing in empty.items()})
    try:
        yield str(portal["USER"])
    finally:
        _reconnect_with(connection, before)


def _reconnect_with(connection: BaseDatabaseWrapper, settings: dict[str, object]) -> None:
    connection.close()
    close_pool = getattr(connection, "close_pool", None)
    if close_pool is not None:
        close_pool()
    connection.settings_dict.update(settings)


def make_role(connection: BaseDatabaseWrapper, role: str) -> None:
    """Create the portal's role if it is missing, and remove the attributes it must not have.

    A new role gets the password in `DATABASE_URL`; an existing role keeps its own. Raises `CommandError` with
    the SQL to run if the owner is not allowed to do this.
    """
    name = connection.ops.quote_name(role)
    with connection.cursor() as cursor:
        may = _read_value(
            cursor, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        attributes = f"SELECT ARRAY[{', '.join(ATTRIBUTES)}] FROM pg_roles WHERE rolname = %s"  # noqa: S608
        found = _read_value(cursor, attributes, role)
        if found is None:
            _may_or_refuse(may, role, f"CREATE ROLE {name} {NEW_ROLE} PASSWORD '...'")
            cursor.execute(f"CREATE ROLE {name} {NEW_ROLE}{_password_clause(connection, role)}")
            return
        excess = [word for word, has in zip(ATTRIBUTES.values(), found, strict=True) if has]
        if excess:
            superuser = _read_value(cursor, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            _may_or_refuse(superuser, role, f"ALTER ROLE {name} {' '.join(excess)}")
            cursor.execute(f"ALTER ROLE {name} {' '.join(excess)}")


def _may_or_refuse(may: object, role: str, statement: str) -> None:
    if not may:
        raise CommandError(
            f"The role in {OWNER_DATABASE} may not make or change the portal's role {role}: run this as a superuser"
            f" of the database server, then migrate again: {statement};"
        )


def _password_clause(connection: BaseDatabaseWrapper, role: str) -> str:
    """Return the password as a verifier, so that no log of the server shows it; "" if there is none."""
    password = str(environment.database()["PASSWORD"] or "")
    if not password:
        return ""
    made = connection.connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return f" PASSWORD '{made.decode()}'"


def grant_rights(connection: BaseDatabaseWrapper, role: str) -> None:
    """Grant the portal's role exactly the rights in the table and revoke all others.

    Idempotent; one transaction. Raises `CommandError` if the owner's role does not own a table, or the
    portal's role owns one.
    """
    name = connection.ops.quote_name(role)
    with connection.cursor() as cursor:
        _check_owners(cursor, role)
        schema, database = (
            connection.ops.quote_name(_read_value(cursor, f"SELECT {what}"))
            for what in ("current_schema()", "current_database()")
        )
        with transaction.atomic(using=connection.alias):
            # It must not be a member of any role, through which it could regain every right revoked here.
            cursor.execute(
                "SELECT roleid::regrole::text FROM pg_auth_members"
                " WHERE member = (SELECT oid FROM pg_roles WHERE rolname = %s)",
                [role],
            )
            roles = [granted for (granted,) in cursor.fetchall()]
            for statement in [
                # PUBLIC keeps USAGE and CONNECT: roles for backups and monitoring may depend on them.
                f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
                f"REVOKE ALL ON SCHEMA {schema} FROM {name}",
                f"GRANT USAGE ON SCHEMA {schema} TO {name}",
                f"REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC",
                f"REVOKE ALL ON DATABASE {database} FROM {name}",
                f"GRANT CONNECT ON DATABASE {database} TO {name}",
                *(f"REVOKE {granted} FROM {name}" for granted in roles),
                *_rights_on_tables(cursor, schema, name),
                *_rights_on_functions(cursor, name),
            ]:
                cursor.execute(statement)


def _check_owners(cursor: CursorWrapper, role: str) -> None:
    question = """
        SELECT c.relname FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
        AND {} ORDER BY 1 LIMIT 1"""
    foreign = _read_value(cursor, question.format("NOT pg_has_role(c.relowner, 'USAGE')"))
    if foreign:
        raise CommandError(
            f"The table {foreign} belongs to another role than {OWNER_DATABASE} names: name the tables' owner there,"
            " or give them to it with REASSIGN OWNED."
        )
    own = _read_value(
        cursor, question.format("c.relowner = (SELECT oid FROM pg_roles WHERE rolname = %s)"), role
    )
    if own:
        raise CommandError(
            f"The portal's role {role} owns the table {own}: run REASSIGN OWNED BY {role} TO the owner's role,"
            " then migrate again."
        )


def _rights_on_tables(cursor: CursorWrapper, schema: str, name: str) -> list[str]:
    cursor.execute(
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'S') ORDER BY relname"
    )
    statements = []
    for table, kind in cursor.fetchall():
        rights = SEQUENCES if kind == "S" else TABLES.get(table, EVERY_TABLE)
        what = f'{"SEQUENCE" if kind == "S" else "TABLE"} {schema}."{table}"'
        statements.append(f"REVOKE ALL ON {what} FROM PUBLIC, {name}")
        if rights:
            statements.append(f"GRANT {', '.join(rights)} ON {what} TO {name}")
    return statements


def _rights_on_functions(cursor: CursorWrapper, name: str) -> list[str]:
    """Return statements for our functions only; functions of extensions stay as they are."""
    cursor.execute(
        "SELECT p.oid::regprocedure::text, p.proname FROM pg_proc p"
        " WHERE p.pronamespace = current_schema()::regnamespace AND pg_has_role(p.proowner, 'USAGE') AND NOT EXISTS"
        " (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')"
    )
    statements = []
    for signature, function in cursor.fetchall():
        statements.append(f"REVOKE ALL ON ROUTINE {signature} FROM PUBLIC, {name}")
        if function in FUNCTIONS:
            statements.append(f"GRANT EXECUTE ON ROUTINE {signature} TO {name}")
    return statements


def _read_value(cursor: CursorWrapper, question: str, *values: str) -> Any:
    cursor.execute(question, values)
    row = cursor.fetchone()
    return row[0] if row else None
