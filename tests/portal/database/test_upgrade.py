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
# What the dump lacks: an appeal that a reviewer has opened, a request without answers, which a reviewer's grant made, a person
# who was imported, and licences in two languages, of which one had to be accepted.
MORE = """
SET session_replication_role = replica;
UPDATE access_requests_accessrequest SET state = 'in_review', appealed_at = submitted_at, appeal = 'Please read it again.'
    WHERE id = (SELECT min(id) FROM access_requests_accessrequest WHERE state = 'in_review');
UPDATE access_requests_accessrequest SET answers = '{}', institution = '', intended_use = '', publications = '[]'
    WHERE id = (SELECT min(id) FROM access_requests_accessrequest WHERE state = 'approved');
UPDATE accounts_user SET imported = true, email = '', password = '!', is_staff = false, is_superuser = false
    WHERE id = (SELECT applicant_id FROM access_requests_accessrequest WHERE state = 'submitted' ORDER BY id LIMIT 1);
INSERT INTO access_requests_licenceversion (name, language, text, sha256, created_at, model_id, must_accept_at)
    SELECT name, 'de', 'Sei brav.', encode(sha256('Sei brav.'), 'hex'), now(), model_id,
        CASE WHEN id = (SELECT min(id) FROM access_requests_licenceversion WHERE retired_at IS NULL) THEN now() END
    FROM access_requests_licenceversion WHERE retired_at IS NULL;
SET session_replication_role = origin;
"""
PLACES = (
    "SELECT model_id, person_id, place, asked_at FROM access_requests_listplace ORDER BY model_id, person_id"
)
QUEUE = """SELECT id FROM access_requests_accessrequest WHERE state IN ('submitted', 'in_review', 'appealed')
    ORDER BY first_submitted_at, id"""
BOUND = """SELECT language, count(*) FROM access_requests_licenceversion WHERE retired_at IS NULL AND binding
    GROUP BY language ORDER BY language"""
READABLE = """
import django
django.setup()
from allauth.mfa.models import Authenticator
from django.contrib.auth import get_user_model
from django.test import Client
from access_requests.models import AccessRequest
from access_requests.services.event_log.verify import submission_problems
root = get_user_model().objects.create_superuser(username="reader", email="reader@example.org")
Authenticator.objects.create(user=root, type="totp", data={})
admin = Client(headers={"host": "127.0.0.1"})
admin.force_login(root)
one_of_each = AccessRequest.objects.exclude(first_submitted_at=None).order_by("state", "pk").distinct("state")
of_imported = AccessRequest.objects.filter(applicant__imported=True)
states = set()
for request in [*one_of_each, *of_imported, *AccessRequest.objects.filter(answers={}).exclude(state="draft")]:
    page = f"/admin/access_requests/accessrequest/{request.pk}/change/"
    assert admin.get(page).status_code == 200, (request.pk, request.state)
    states.add(request.state)
    if not request.applicant.imported:
        own = Client(headers={"host": "127.0.0.1"})
        own.force_login(request.applicant)
        page = f"/{request.model.repo_id}/request/submissions?request={request.pk}"
        assert own.get(page).status_code == 200, (request.pk, request.state)
assert states >= {"submitted", "appealed", "approved", "rejected", "withdrawn", "reset"}, states
assert submission_problems() == []
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


def test_every_state_of_an_earlier_version_stays_readable_and_in_its_place(
    filled: str, owner_of: Callable[..., psycopg.Connection[Any]], owner_url: Callable[[str], str]
) -> None:
    with owner_of(filled) as owner:
        owner.execute("SET search_path = public")
        owner.execute(MORE)
        places, queue = owner.execute(PLACES).fetchall(), owner.execute(QUEUE).fetchall()
        assert len(places) > 100
        assert len(queue) > 5
        # A migration that was interrupted before it was recorded runs again and changes nothing.
        run_python(owner_url(filled), "manage.py", "migrate", "-v0", "access_requests", "0030")
        before = counts(owner)
        owner.execute("DELETE FROM django_migrations WHERE name = '0030_fill_submissions'")
        run_python(owner_url(filled), "manage.py", "migrate", "-v0")
        assert counts(owner) == before
        assert owner.execute(PLACES).fetchall() == places
        assert owner.execute(QUEUE).fetchall() == queue
        opened = "SELECT state FROM access_requests_accessrequest WHERE appeal = 'Please read it again.'"
        assert owner.execute(opened).fetchall() == [("appealed",)]
        names = owner.execute("SELECT count(DISTINCT (model_id, name)) FROM access_requests_licenceversion")
        assert owner.execute(BOUND).fetchall() == [("de", 1), ("en", names.fetchone()[0] - 1)]  # type: ignore[index]
    run_python(owner_url(filled), "-c", READABLE)
