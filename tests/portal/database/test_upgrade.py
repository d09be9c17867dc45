"""A database filled by an earlier version works with this one and keeps its data."""

from __future__ import annotations

import lzma
import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.portal.database.test_migrations import run_python

# `pg_dump --inserts --no-owner` after `./dev.py bench scale --requests 200`, before migration 0028.
DUMP = Path(__file__).with_name("data") / "version_0.1.sql.xz"
COUNTED = (
    "access_requests_accessrequest", "access_requests_event", "access_requests_eventlink", "access_requests_grant",
    "access_requests_decision", "access_requests_accesstoken", "access_requests_licenceacceptance",
    "access_requests_outgoingmail", "model_ops_revision", "model_ops_download", "accounts_user",
)  # fmt: skip
VERIFY = """
import django
django.setup()
from access_requests.services.event_log.append import verify_chain
report = verify_chain()
assert report.ok, report
assert report.events > 700, report
from access_requests.services.event_log.verify import submission_problems
assert submission_problems() == []
"""
PAGES = """
import django
django.setup()
from django.test import Client
from access_requests.models import GatedModel, Grant
paths = ["/", "/api/models", "/me/", *GatedModel.objects.filter(listed=True).order_by("pk").values_list("repo_id", flat=True)[:5]]
holder = Grant.objects.filter(closed_at=None).order_by("pk").first().user
client = Client(headers={"host": "127.0.0.1"})
client.force_login(holder)
for path in paths:
    answer = client.get(path if path.startswith("/") else f"/{path}")
    assert answer.status_code == 200, (path, answer.status_code)
"""


@pytest.fixture
def filled(owner_of: Callable[..., psycopg.Connection[Any]]) -> Generator[str]:
    """Create a database with the rows of the dump and return its name."""
    name = f"filled_{secrets.token_hex(4)}"
    with owner_of() as server:
        server.execute(f"CREATE DATABASE {name}")
    with owner_of(name) as owner:
        owner.execute(lzma.decompress(DUMP.read_bytes()))
    yield name
    with owner_of() as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def counts(owner: psycopg.Connection[Any]) -> dict[str, int]:
    return {table: owner.execute(f"SELECT count(*) FROM public.{table}").fetchone()[0] for table in COUNTED}  # type: ignore[index]


def test_rows_of_an_earlier_version_are_all_there_and_the_chain_is_whole(
    filled: str, owner_of: Callable[..., psycopg.Connection[Any]], owner_url: Callable[[str], str]
) -> None:
    with owner_of(filled) as owner:
        before = counts(owner)
        assert before["access_requests_accessrequest"] == 200
        rendered = owner.execute("SELECT count(*) FROM public.access_requests_renderedcard").fetchone()
        run_python(owner_url(filled), "manage.py", "migrate", "-v0")
        after = counts(owner)
        asked = owner.execute(
            "SELECT count(*) FROM public.access_requests_accessrequest WHERE submitted_at IS NOT NULL"
        )
        submitted = asked.fetchone()[0]  # type: ignore[index]
        recorded = "SELECT count(*) FROM public.access_requests_event WHERE kind = 'request.recorded'"
        assert owner.execute(recorded).fetchone() == (submitted,)
        first = "SELECT count(*) FROM public.access_requests_submission WHERE number = 1"
        assert owner.execute(first).fetchone() == (submitted,)
        # One event for each request that was submitted, and nothing else is more or less than before.
        grown = {table: after[table] - number for table, number in before.items() if after[table] != number}
        assert grown.keys() <= {
            "access_requests_event",
            "access_requests_eventtext",
            "access_requests_eventlink",
        }
        assert grown["access_requests_event"] == submitted
        kept = "SELECT count(*) FROM public.access_requests_gatedmodel WHERE card_renderer > 0"
        assert owner.execute(kept).fetchone() == rendered
    run_python(owner_url(filled), "manage.py", "makemigrations", "--check", "--dry-run")
    run_python(owner_url(filled), "-c", VERIFY)
    run_python(owner_url(filled), "-c", PAGES)
