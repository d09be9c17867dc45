"""Rights are applied after each migrate, to a separate database too, and missing protection is reported."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core.management import CommandError
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from access_requests.services.event_log.protection import ADVICE, unprotected
from portal.database_rights import grant_rights, make_role
from portal.embedded.roles import OWNER, PORTAL
from tests.conftest import connect_as

CHECKOUT = Path(__file__).resolve().parents[2]
EVENT = "access_requests_event"
REPORT = ("-P", "-m", "portal.embedded.prepare", "report")


@pytest.fixture(scope="module")
def own_database(owner_of: Callable[..., Any], owner_url: Callable[[str], str]) -> Generator[dict[str, str]]:
    """Return the addresses, for owner and portal, of a separate database without tables."""
    name = f"own_{secrets.token_hex(4)}"
    with owner_of() as server:
        server.execute(f"CREATE DATABASE {name}")
    portal = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{name}"
    yield {"name": name, "owner": owner_url(name), "portal": portal}
    with owner_of() as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def python(*arguments: str, **environment: str) -> tuple[int, str, str]:
    said = subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.returncode, said.stdout, said.stderr


def rights(connected: psycopg.Connection[Any], table: str) -> str:
    question = (
        "SELECT string_agg(right_, ' ') FROM unnest(%s::text[]) right_ WHERE has_table_privilege(%s, right_)"
    )
    every = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
    row = connected.execute(question, [every, table]).fetchone()
    assert row
    return str(row[0])


def test_one_role_for_all_migrates_and_says_what_is_not_protected(own_database: dict[str, str]) -> None:
    status, _, errors = python("manage.py", "migrate", "-v1", DATABASE_URL=own_database["owner"])
    sentence = "The portal's database role gatehouse is a superuser: it could change or delete events, submissions, messages, licence texts and acceptances."
    assert (status, errors.splitlines()) == (0, [sentence, ADVICE])
    status, report, _ = python(*REPORT, DATABASE_URL=own_database["owner"])
    assert (status, json.loads(report)["unprotected"]) == (0, [sentence, ADVICE])


def test_owners_address_gives_the_portals_role_its_rights_and_takes_the_rest(
    own_database: dict[str, str], owner_of: Callable[..., Any]
) -> None:
    with owner_of(own_database["name"]) as owner:
        status, _, errors = python("manage.py", "migrate", "-v0", DATABASE_URL=own_database["owner"])
        assert (status, errors) == (0, "")
        owner.execute(f"GRANT ALL ON {EVENT} TO PUBLIC")
        owner.execute("GRANT CREATE ON SCHEMA public TO gatehouse_portal")
    both = {
        "DATABASE_URL": own_database["portal"],
        "GATEHOUSE_OWNER_DATABASE_URL": own_database["owner"],
    }
    for _ in range(2):
        assert python("manage.py", "migrate", "-v1", **both)[::2] == (0, "")
    folder = own_database["portal"].partition("@/")[2].rpartition("/")[0]
    with psycopg.connect(dbname=own_database["name"], user="gatehouse_portal", host=folder) as connected:
        found = {
            table: rights(connected, table)
            for table in (EVENT, "access_requests_licenceacceptance", "access_requests_licenceversion",
                          "django_migrations", "access_requests_grant")
        }  # fmt: skip
        create = connected.execute("SELECT has_schema_privilege('public', 'CREATE')").fetchone()
    assert create == (False,)
    assert found == {
        EVENT: "SELECT INSERT",
        "access_requests_licenceacceptance": "SELECT INSERT",
        "access_requests_licenceversion": "SELECT INSERT",
        "django_migrations": "SELECT",
        "access_requests_grant": "SELECT INSERT UPDATE DELETE",
    }
    status, report, _ = python(*REPORT, DATABASE_URL=own_database["portal"])
    assert (status, json.loads(report)["unprotected"]) == (0, [])


def test_other_roles_may_connect_and_look_as_before_and_make_nothing(
    own_database: dict[str, str], owner_of: Callable[..., Any]
) -> None:
    """A role for backups or monitoring may have these rights only through PUBLIC."""
    watcher = f"watcher_{secrets.token_hex(4)}"
    both = {"DATABASE_URL": own_database["portal"], "GATEHOUSE_OWNER_DATABASE_URL": own_database["owner"]}
    question = (
        "SELECT array_agg(has_database_privilege(role, current_database(), r) ORDER BY r), array_agg(has_schema_privilege"
        "(role, 'public', s) ORDER BY r) FROM unnest(%s::text[]) role,"
        " (VALUES ('CONNECT', 'USAGE'), ('CREATE', 'CREATE'), ('TEMPORARY', 'CREATE')) v(r, s)"
    )
    with owner_of(own_database["name"]) as owner:
        owner.execute(f"CREATE ROLE {watcher}")
        try:
            owner.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
            owner.execute(f"GRANT ALL ON DATABASE {own_database['name']} TO PUBLIC")
            assert owner.execute(question, [[watcher]]).fetchone() == ([True] * 3, [True] * 3)
            assert python("manage.py", "migrate", "-v1", **both)[::2] == (0, "")
            may = [True, False, False]
            for role in (watcher, "gatehouse_portal"):
                assert owner.execute(question, [[role]]).fetchone() == (may, may)
        finally:
            owner.execute(f"DROP ROLE {watcher}")


@pytest.mark.parametrize(
    ("portal", "owner", "sentence"),
    [
        ("postgres://p@h/x", "postgres://o@h/y", "names another database than DATABASE_URL: only the user differs."),
        ("postgres://o@h/x", "postgres://o@h/x", "protects nothing unless DATABASE_URL names another user: give it one of its own, such as gatehouse_portal, which migrate makes."),
        ("postgres://p@h/x", "mysql://o@h/x", "names another database: Gatehouse runs on PostgreSQL only."),
    ],
)  # fmt: skip
def test_owners_address_that_makes_no_sense_is_one_sentence(portal: str, owner: str, sentence: str) -> None:
    environment = {"DATABASE_URL": portal, "GATEHOUSE_OWNER_DATABASE_URL": owner}
    status, _, errors = python("-P", "-m", "portal.embedded.prepare", "migrate", **environment)
    assert (status, errors) == (1, f"GATEHOUSE_OWNER_DATABASE_URL {sentence}\n")


@pytest.fixture
def owner_connection(as_owner: Any) -> Generator[Any]:
    """Connect Django as the owner, in a transaction that is rolled back."""
    connect_as(OWNER, as_owner.info.password)
    try:
        with transaction.atomic():
            yield connection
            transaction.set_rollback(True)
    finally:
        connect_as(PORTAL, "")


def test_role_is_made_with_the_password_of_its_address(
    owner_connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://fresh_portal:a-password@h/x")
    make_role(owner_connection, "fresh_portal")
    with owner_connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper, rolcanlogin, rolcreaterole, left(rolpassword, 14) FROM pg_authid WHERE rolname = 'fresh_portal'"
        )
        assert cursor.fetchone() == (False, True, False, "SCRAM-SHA-256$")


def test_role_that_may_too_much_loses_it(owner_connection: Any) -> None:
    with owner_connection.cursor() as cursor:
        cursor.execute("CREATE ROLE fresh_portal LOGIN SUPERUSER CREATEDB")
        make_role(owner_connection, "fresh_portal")
        cursor.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'fresh_portal'")
        assert cursor.fetchone() == (False, False)


def test_owner_that_may_make_no_role_says_what_to_run(owner_connection: Any) -> None:
    with owner_connection.cursor() as cursor:
        cursor.execute("CREATE ROLE limited")
        cursor.execute("SET LOCAL ROLE limited")
    with pytest.raises(CommandError) as refused:
        make_role(owner_connection, "fresh_portal")
    assert str(refused.value) == (
        "The role in GATEHOUSE_OWNER_DATABASE_URL may not make or change the portal's role fresh_portal: run this as a"
        ' superuser of the database server, then migrate again: CREATE ROLE "fresh_portal" LOGIN NOSUPERUSER NOCREATEDB'
        " NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '...';"
    )


def test_table_of_the_portals_role_is_refused_in_one_sentence(owner_connection: Any) -> None:
    with owner_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {EVENT} OWNER TO gatehouse_portal")
    with pytest.raises(
        CommandError, match=f"^The portal's role gatehouse_portal owns the table {EVENT}: run"
    ):
        grant_rights(owner_connection, "gatehouse_portal")


HOLES = {
    f"GRANT UPDATE, TRIGGER ON {EVENT} TO PUBLIC": (
        f"REVOKE UPDATE, TRIGGER ON {EVENT} FROM PUBLIC",
        f"has more rights to {EVENT} than it needs: TRIGGER, UPDATE.",
    ),
    "GRANT UPDATE (text) ON access_requests_licenceversion TO gatehouse_portal": (
        "REVOKE UPDATE (text) ON access_requests_licenceversion FROM gatehouse_portal",
        "has more rights to access_requests_licenceversion than it needs: UPDATE.",
    ),
    f"ALTER TABLE {EVENT} OWNER TO gatehouse_portal": (
        f"ALTER TABLE {EVENT} OWNER TO gatehouse; GRANT SELECT, INSERT ON {EVENT} TO gatehouse_portal",
        f"owns {EVENT}: it could switch their protection off and change or delete rows.",
    ),
    "ALTER FUNCTION gatehouse_append_only() OWNER TO gatehouse_portal": (
        "ALTER FUNCTION gatehouse_append_only() OWNER TO gatehouse",
        "owns the tables' schema or their triggers: it could switch their protection off.",
    ),
    "GRANT SET ON PARAMETER session_replication_role TO gatehouse_portal": (
        "REVOKE SET ON PARAMETER session_replication_role FROM gatehouse_portal",
        "may set session_replication_role, which silences triggers.",
    ),
    "GRANT pg_execute_server_program TO gatehouse_portal": (
        "REVOKE pg_execute_server_program FROM gatehouse_portal",
        "is a member of pg_execute_server_program: it could change the database's own files.",
    ),
}


@pytest.mark.parametrize("hole", HOLES)
def test_hole_in_the_protection_is_said_where_the_log_is_read(
    as_owner: Any, make_person: Callable[..., Any], client: Client, hole: str
) -> None:
    """The check asks the database, not the settings, so it does not matter who caused the gap."""
    root = make_person("root", is_superuser=True)
    TOTP.activate(root, generate_totp_secret())
    client.force_login(root)
    page = reverse("admin:access_requests_event_changelist")
    before = client.get(page)
    assert (unprotected(), before.status_code, b"database role" in before.content) == ([], 200, False)
    close, sentence = HOLES[hole]
    as_owner.execute(hole)
    try:
        assert unprotected() == [f"The portal's database role gatehouse_portal {sentence}"]
        shown = client.get(page).content.decode()
    finally:
        as_owner.execute(close)
    assert "The portal&#x27;s database role gatehouse_portal" in shown
    assert "GATEHOUSE_OWNER_DATABASE_URL" in shown
    assert unprotected() == []
