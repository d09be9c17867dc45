"""Ask the database how the portal's own role could change the event log and other evidence."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

ADVICE = gettext_noop(
    "Give the database an owner that the portal does not know: GATEHOUSE_OWNER_DATABASE_URL, docs/operations.md."
)
SUPERUSER = gettext_noop(
    "The portal's database role %(role)s is a superuser: "
    "it could change or delete events, submissions, messages, licence texts and acceptances."
)
OWNS_TABLES = gettext_noop(
    "The portal's database role %(role)s owns %(tables)s: "
    "it could switch their protection off and change or delete rows."
)
OWNS_SCHEMA = gettext_noop(
    "The portal's database role %(role)s owns the tables' schema or their triggers: "
    "it could switch their protection off."
)
HAS_EXCESS_RIGHTS = gettext_noop(
    "The portal's database role %(role)s has more rights to %(table)s than it needs: %(rights)s."
)
MAKES_ROLES = gettext_noop(
    "The portal's database role %(role)s may make roles, "
    "and so could make itself a member of the tables' owner."
)
SILENCES_TRIGGERS = gettext_noop(
    "The portal's database role %(role)s may set session_replication_role, which silences triggers."
)
REACHES_FILES = gettext_noop(
    "The portal's database role %(role)s is a member of %(roles)s: it could change the database's own files."
)
RIGHTS = ("INSERT", "DELETE", "TRUNCATE", "TRIGGER")
# Table -> columns that may be updated; rows are never deleted.
PROTECTED: dict[str, tuple[str, ...]] = {
    "access_requests_event": (),
    "access_requests_eventtext": (),
    "access_requests_eventlink": (),
    "access_requests_licenceacceptance": (),
    "access_requests_licenceversion": ("retired_at", "must_accept_at"),
    "access_requests_message": (),
    "access_requests_submission": (),
    "access_requests_vote": ("ended_at",),
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

    Asks the database as this process's own role, so the answer is right for any setup of roles.
    """
    with connection.cursor() as cursor:
        cursor.execute(ROLE)
        role, superuser, makes_roles = cursor.fetchone() or ("", True, True)
        if superuser:
            return [_(SUPERUSER) % {"role": role}]
        cursor.execute(TABLES, [list(RIGHTS), list(PROTECTED)])
        tables = cursor.fetchall()
        found = []
        if owned := [table for table, owner, _rights, _columns in tables if owner]:
            found.append(_(OWNS_TABLES) % {"role": role, "tables": ", ".join(owned)})
        for table, owner, rights, columns in tables:
            excess = set(rights) if table in FILLED_BY_TRIGGER else set(rights) - {"INSERT"}
            if set(columns) - set(PROTECTED[table]):
                excess.add("UPDATE")
            if excess and not owner:
                given = {"role": role, "table": table, "rights": ", ".join(sorted(excess))}
                found.append(_(HAS_EXCESS_RIGHTS) % given)
        cursor.execute(SCHEMA, [list(PROTECTED)])
        if not found and (cursor.fetchone() or (False,))[0]:
            found.append(_(OWNS_SCHEMA) % {"role": role})
        return found + _ways_around_tables(cursor, role, makes_roles)


def _ways_around_tables(cursor: Any, role: str, makes_roles: bool) -> list[str]:
    """Return ways around the tables' rights: other roles, the setting to disable triggers, server files."""
    sentences = []
    version = connection.connection.info.server_version
    if makes_roles and version < 160000:
        sentences.append(_(MAKES_ROLES) % {"role": role})
    if version >= 150000:
        cursor.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')")
        if (cursor.fetchone() or (False,))[0]:
            sentences.append(_(SILENCES_TRIGGERS) % {"role": role})
    cursor.execute(SERVER)
    through = [name for (name,) in cursor.fetchall()]
    if through:
        sentences.append(_(REACHES_FILES) % {"role": role, "roles": ", ".join(through)})
    return sentences
