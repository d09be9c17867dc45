"""What the portal's own database role could once do to the log, and can no longer do.

The role owned its tables (embedded: it was a superuser without a password). It could switch off triggers and
delete the last events, change an actor and rebuild all hashes, or change licence texts, and `verify_audit`
found nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, ProgrammingError, connection, transaction

from access_requests.models import Event, EventLink, EventText, LicenceAcceptance, LicenceVersion
from access_requests.services.event_log.append import append_event, verify_chain
from access_requests.services.event_log.protection import unprotected

pytestmark = pytest.mark.django_db(transaction=True)

EVENT, TEXT, LINK, LICENCE, ACCEPTANCE = (
    f"access_requests_{name}"
    for name in ("event", "eventtext", "eventlink", "licenceversion", "licenceacceptance")
)
REWRITING = [
    f"UPDATE {EVENT} SET writer = 'policy'",
    f"UPDATE {EVENT} SET digest = repeat('0', 64)",
    f"DELETE FROM {EVENT} WHERE id > 1",
    f"UPDATE {TEXT} SET text = NULL, salt = NULL",
    f"DELETE FROM {TEXT}",
    f"UPDATE {LINK} SET hash = repeat('0', 64)",
    f"DELETE FROM {LINK}",
    f"INSERT INTO {LINK} (number, event_id, previous_hash, hash) VALUES (99, 1, '', '')",
    "SELECT * FROM access_requests_eventtolink",
    "SELECT gatehouse_erase_event_texts(ARRAY[1, 2, 3], 1)",
    f"TRUNCATE {EVENT} CASCADE",
    f"UPDATE {ACCEPTANCE} SET sha256 = repeat('0', 64)",
    f"DELETE FROM {ACCEPTANCE}",
    f"UPDATE {LICENCE} SET text = 'Be bad.'",
    f"UPDATE {LICENCE} SET sha256 = repeat('0', 64)",
    f"DELETE FROM {LICENCE}",
    f"INSERT INTO {LICENCE} SELECT * FROM {LICENCE} ON CONFLICT (id) DO UPDATE SET text = 'Be bad.'",
    f"MERGE INTO {EVENT} e USING (SELECT 1) one ON e.id = 1 WHEN MATCHED THEN DELETE",
    f"SELECT * FROM {EVENT} FOR UPDATE",
    f"DO 'BEGIN LOCK TABLE {EVENT} IN ACCESS EXCLUSIVE MODE; END'",
    "DELETE FROM django_migrations",
    "SELECT setval(pg_get_serial_sequence('access_requests_event', 'id'), 1)",
]
SWITCHING_OFF = [
    f"ALTER TABLE {EVENT} DISABLE TRIGGER ALL",
    f"ALTER TABLE {EVENT} DISABLE TRIGGER {EVENT}_rows",
    f"ALTER TABLE {EVENT} RENAME TO away",
    f"ALTER TABLE {EVENT} OWNER TO gatehouse_portal",
    f"DROP TRIGGER {EVENT}_rows ON {EVENT}",
    f"DROP TABLE {EVENT} CASCADE",
    f"CREATE TRIGGER mine BEFORE INSERT ON {EVENT} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    f"CREATE RULE mine AS ON INSERT TO {EVENT} DO INSTEAD NOTHING",
    f"CREATE POLICY mine ON {EVENT}",
    "SET session_replication_role = replica",
    "ALTER ROLE gatehouse_portal SET session_replication_role = replica",
    "ALTER DATABASE test_gatehouse SET session_replication_role = replica",
    "DROP FUNCTION gatehouse_append_only() CASCADE",
    "CREATE OR REPLACE FUNCTION gatehouse_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "ALTER FUNCTION gatehouse_append_only() OWNER TO gatehouse_portal",
]
RISING = [
    "SET ROLE gatehouse",
    "SET SESSION AUTHORIZATION gatehouse",
    "GRANT gatehouse TO gatehouse_portal",
    "ALTER ROLE gatehouse_portal SUPERUSER",
    "ALTER ROLE gatehouse PASSWORD 'known'",
    "CREATE ROLE mine SUPERUSER",
    "UPDATE pg_authid SET rolsuper = true",
    "UPDATE pg_class SET relowner = 'gatehouse_portal'::regrole",
    "SELECT rolpassword FROM pg_authid",
    "REASSIGN OWNED BY gatehouse TO gatehouse_portal",
]
LEAVING_THE_DATABASE = [
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/gatehouse-mine'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/gatehouse-mine')",
    "ALTER SYSTEM SET fsync = off",
    "SELECT pg_reload_conf()",
    "CREATE DATABASE mine",
    "DROP DATABASE gatehouse",
    "CREATE TABLESPACE mine LOCATION '/tmp'",
    "LOAD 'auto_explain'",
]
MAKING = [
    "CREATE TABLE mine (line text)",
    "CREATE TEMPORARY TABLE mine (line text)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE VIEW mine AS SELECT 1",
    "DROP EXTENSION plpgsql CASCADE",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION gatehouse_append_only()",
]
REFUSED = {psycopg.errors.InsufficientPrivilege.sqlstate}


@pytest.fixture
def recorded_facts(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> dict[str, Any]:
    """The rows of a log, a licence and an acceptance that an attacker might want to change."""
    submit(make_person("ada"), make_model())
    return facts()


def facts() -> dict[str, Any]:
    return {
        model.__name__: list(model.objects.order_by("pk").values())
        for model in (Event, EventText, EventLink, LicenceVersion, LicenceAcceptance)
    }


@pytest.mark.parametrize("statement", [*REWRITING, *SWITCHING_OFF, *RISING, *LEAVING_THE_DATABASE, *MAKING])
def test_statement_of_the_portals_role_is_refused_by_the_database(
    recorded_facts: dict[str, Any], statement: str
) -> None:
    with pytest.raises(Exception) as refused, connection.cursor() as cursor:  # noqa: PT011 - its code is what counts
        cursor.execute(statement)
    cause = refused.value.__cause__ or refused.value
    assert getattr(cause, "sqlstate", "") in REFUSED, cause
    assert facts() == recorded_facts
    assert verify_chain().ok


def test_statements_in_the_name_of_the_owner_did_the_damage(
    recorded_facts: dict[str, Any], as_owner: Any
) -> None:
    """The portal's role used to be the owner: run as owner, the same statements change the rows."""
    for statement in (
        "SET session_replication_role = replica",
        f"UPDATE {EVENT} SET writer = 'policy'",
        f"UPDATE {LICENCE} SET text = 'Be bad.'",
    ):
        as_owner.execute(statement)
    assert {event.writer for event in Event.objects.all()} == {"policy"}
    assert LicenceVersion.objects.get().text == "Be bad."


def test_event_of_the_old_format_is_refused(recorded_facts: dict[str, Any]) -> None:
    """An event with a huge number would have stopped the check from ever looking at the links again."""
    statement = (
        f"INSERT INTO {EVENT} (format, at, kind, writer, facts, digests, digest, old_number, old_previous_hash, old_hash)"
        " VALUES (1, now(), 'x', 'x', '{}', '{}', '', 1000000000000, '', '')"
    )
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(statement)
    assert facts() == recorded_facts
    assert verify_chain().ok


def test_text_for_an_earlier_event_is_refused(recorded_facts: dict[str, Any]) -> None:
    """An additional text would have made the check report the event as changed."""
    statement = f"INSERT INTO {TEXT} (event_id, name, salt, text) SELECT max(id), 'x', 'x', 'x' FROM {EVENT}"
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(statement)
    assert facts() == recorded_facts
    assert verify_chain().ok


def test_event_with_a_wrong_digest_hides_nothing_after_it(recorded_facts: dict[str, Any]) -> None:
    """The portal's role may insert an event like this; the check reports it and continues."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {EVENT} (format, at, kind, writer, facts, digests, digest, old_previous_hash, old_hash)"
            " VALUES (2, now(), 'x', 'x', '{}', '{}', 'wrong', '', '')"
        )
    append_event(kind="test.after")
    report = verify_chain()
    assert report.bad == [report.events - 1]


@pytest.mark.parametrize("right", ["UPDATE, DELETE", "ALL"])
def test_right_that_the_role_gives_itself_is_none(recorded_facts: dict[str, Any], right: str) -> None:
    """PostgreSQL only warns about it, since the role has nothing to grant."""
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT {right} ON {EVENT} TO gatehouse_portal, PUBLIC")
    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {EVENT}")
    assert (facts(), unprotected()) == (recorded_facts, [])


@pytest.mark.parametrize("extension", ["hstore", "cube", "pg_freespacemap"])
def test_extension_is_not_made(recorded_facts: dict[str, Any], extension: str) -> None:
    """This holds even for trusted extensions: where the server has one, the right to create it is missing."""
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute(f"CREATE EXTENSION {extension}")
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname FROM pg_extension")
        assert cursor.fetchall() == [("plpgsql",), ("pg_trgm",)]


def test_portals_role_owns_nothing_and_is_nobody_elses_member(db: None) -> None:
    questions = {
        "relations": "SELECT count(*) FROM pg_class WHERE relowner = 'gatehouse_portal'::regrole",
        "functions": "SELECT count(*) FROM pg_proc WHERE proowner = 'gatehouse_portal'::regrole",
        "schemas": "SELECT count(*) FROM pg_namespace WHERE nspowner = 'gatehouse_portal'::regrole",
        "memberships": "SELECT count(*) FROM pg_auth_members WHERE member = 'gatehouse_portal'::regrole",
        "attributes": "SELECT count(*) FROM pg_roles WHERE rolname = 'gatehouse_portal' AND"
        " (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)",
        "truncate": "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND"
        " (has_table_privilege(oid, 'TRUNCATE') OR has_table_privilege(oid, 'TRIGGER') OR has_table_privilege(oid, 'REFERENCES'))",
        "public functions": "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND has_function_privilege(oid, 'EXECUTE') AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid"
        " AND deptype = 'e')",  # functions of an extension: those of pg_trgm compare texts
    }
    with connection.cursor() as cursor:
        found = {}
        for name, question in questions.items():
            cursor.execute(question)
            found[name] = cursor.fetchone()[0]
    assert found == dict.fromkeys(questions, 0)
    assert unprotected() == []


def test_what_the_portal_needs_of_licences_is_allowed(recorded_facts: dict[str, Any]) -> None:
    with transaction.atomic():
        assert LicenceVersion.objects.select_for_update().update(retired_at=None, must_accept_at=None) == 1


@pytest.mark.parametrize(
    ("user", "password", "sentence"),
    [
        ("gatehouse", "", "no password supplied"),
        ("gatehouse", "gatehouse", "password authentication failed"),
        ("postgres", "", "no pg_hba.conf entry"),
        ("root", "", "no pg_hba.conf entry"),
    ],
)
def test_socket_lets_nobody_in_as_the_owner_without_the_password(
    postgres_server: Any, user: str, password: str, sentence: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match=sentence):
        psycopg.connect(
            dbname="gatehouse", user=user, password=password, host=str(postgres_server.sockets),
            passfile="/nonexistent",
        )  # fmt: skip


def test_portals_role_enters_no_other_database_of_the_server(postgres_server: Any) -> None:
    for name in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(dbname=name, user="gatehouse_portal", host=str(postgres_server.sockets))


def test_refusal_of_the_database_is_no_way_to_break_the_portal(recorded_facts: dict[str, Any]) -> None:
    """A refused statement ends its transaction and has no lasting effect."""
    with pytest.raises(ProgrammingError), transaction.atomic():
        LicenceVersion.objects.update(retired_at=None, text="Be bad.")
    assert facts() == recorded_facts
