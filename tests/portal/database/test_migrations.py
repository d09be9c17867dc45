"""A migration that is interrupted can be run again, after any step of those that are not atomic."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db.migrations.loader import MigrationLoader

CHECKOUT = Path(__file__).resolve().parents[3]
APPS = ("access_requests", "model_ops")
CUT_SHORT = ("list_place_order", "mail_next", "grant_open_until", "delivery_waiting", "request_by_state")
AGAIN = """
import sys, django
django.setup()
from django.db import connection
from django.db.migrations.loader import MigrationLoader
for key in (tuple(word.split(".")) for word in sys.argv[1:]):
    loader = MigrationLoader(connection)
    with connection.schema_editor(atomic=False) as editor:
        loader.get_migration(*key).apply(loader.project_state(key, at_end=False), editor)
"""
SAVED = """SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid FROM pg_index
    JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3"""


@pytest.fixture
def migrated(owner_of: Callable[..., Any], owner_url: Callable[[str], str]) -> Generator[str]:
    """Create a separate database with all tables and return its name."""
    name = f"migrated_{secrets.token_hex(4)}"
    with owner_of() as server:
        server.execute(f"CREATE DATABASE {name}")
    run_python(owner_url(name), "manage.py", "migrate", "-v0")
    yield name
    with owner_of() as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run_python(database: str, *arguments: str) -> None:
    """Run Python in the checkout on that database and check that it succeeds."""
    environment = os.environ | {
        "PYTHONPATH": str(CHECKOUT),
        "DATABASE_URL": database,
        "DJANGO_SETTINGS_MODULE": "portal.settings",
    }
    said = subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr


def _interruptible() -> list[str]:
    """Return the migrations that are not atomic, in order."""
    known = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return [f"{app}.{name}" for (app, name), one in sorted(known.items()) if app in APPS and not one.atomic]


def test_every_step_can_be_run_again_and_makes_an_index_that_was_cut_short(
    migrated: str, owner_of: Callable[..., psycopg.Connection[Any]], owner_url: Callable[[str], str]
) -> None:
    again = _interruptible()
    assert {"access_requests.0020_mail_indexes", "model_ops.0008_due"} <= set(again)
    with owner_of(migrated) as owner:
        before = owner.execute(SAVED).fetchall()
        for index in CUT_SHORT:
            cut = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)"
            assert owner.execute(cut, [index]).rowcount == 1
        owner.commit()
        run_python(owner_url(migrated), "-c", AGAIN, *again)
        assert owner.execute(SAVED).fetchall() == before
