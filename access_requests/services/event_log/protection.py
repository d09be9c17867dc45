"""Ask the database how the portal's own role could change the event log and the licences."""

from __future__ import annotations

from typing import Any

from django.db import connection

ADVICE = "Give the database an owner that the portal does not know: GATEHOUSE_OWNER_DATABASE_URL, docs/operations.md."
RIGHTS = ("INSERT", "DELETE", "TRUNCATE", "TRIGGER")
# Table -> columns that may be updated; rows are never deleted.
PROTECTED: dict[str, tuple[str, ...]] = {
    "access_requests_event": (),
    "access_requests_eventtext": (),
    "access_requests_eventlink": (),
    "access_requests_licenceacceptance": (),
    "access_requests_licenceversion": ("retired_at", "must_accept_at"),
}
FILLED_BY_TRIGGER = {"access_requests_eventlink"}
ROLE = "SELECT rolname, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user"
TABLES = """
SELECT c.relname, pg_has_role(c.relowner, 'MEMBER'),
    array(SELECT right_ FROM unnest(%s::text[]) AS right_ WHERE has_table_privilege(c.oid, right_)),
    array(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND has_column_privilege(c.oid, a.attnum, 'UPDATE'))
FROM pg_class c WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name) ORDER BY c.relname
"""
SCHEMA = """
SELECT pg_has_role(n.nspowner, 'MEMBER') OR EXISTS (
    SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
        AND NOT t.tgisinternal AND pg_has_role(p.proowner, 'MEMBER'))
FROM pg_namespace n WHERE n.nspname = current_schema()
"""
SERVER = """
SELECT rolname FROM pg_roles WHERE rolname IN ('pg_execute_server_program', 'pg_write_server_files')
    AND pg_has_role(oid, 'MEMBER')
"""


def unprotected() -> list[str]:
    """Return a sentence for each way in which the portal's role could rewrite its records; there should be none.

    Asks the database as this process's own role, so the answer holds for any setup of roles.
    """
    with connection.cursor() as cursor:
        cursor.execute(ROLE)
        role, superuser, makes_roles = cursor.fetchone() or ("", True, True)
        who = f"The portal's database role {role}"
        if superuser:
            return [f"{who} is a superuser: it could change or delete events, licence texts and acceptances."]
        cursor.execute(TABLES, [list(RIGHTS), list(PROTECTED)])
        tables = cursor.fetchall()
        found = [*_owned(who, tables), *_granted(who, tables)]
        cursor.execute(SCHEMA, [list(PROTECTED)])
        if not found and (cursor.fetchone() or (False,))[0]:
            found.append(
                f"{who} owns the tables' schema or their triggers: it could switch their protection off."
            )
        return found + _around(cursor, who, makes_roles)


def _owned(who: str, tables: list[tuple[Any, ...]]) -> list[str]:
    owned = [table for table, owner, _, _ in tables if owner]
    if not owned:
        return []
    return [f"{who} owns {', '.join(owned)}: it could switch their protection off and change or delete rows."]


def _granted(who: str, tables: list[tuple[Any, ...]]) -> list[str]:
    sentences = []
    for table, owner, rights, columns in tables:
        excess = set(rights) if table in FILLED_BY_TRIGGER else set(rights) - {"INSERT"}
        if set(columns) - set(PROTECTED[table]):
            excess.add("UPDATE")
        if excess and not owner:
            sentences.append(f"{who} has more rights to {table} than it needs: {', '.join(sorted(excess))}.")
    return sentences


def _around(cursor: Any, who: str, makes_roles: bool) -> list[str]:
    """Return ways around the tables: rights of other roles, the setting that disables triggers, the server's files."""
    sentences = []
    version = connection.connection.info.server_version
    if makes_roles and version < 160000:
        sentences.append(f"{who} may make roles, and so could make itself a member of the tables' owner.")
    if version >= 150000:
        cursor.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')")
        if (cursor.fetchone() or (False,))[0]:
            sentences.append(f"{who} may set session_replication_role, which silences triggers.")
    cursor.execute(SERVER)
    through = [name for (name,) in cursor.fetchall()]
    if through:
        sentences.append(
            f"{who} is a member of {', '.join(through)}: it could change the database's own files."
        )
    return sentences
