from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from access_requests.models import Event
from access_requests.services.audit import append_event, verify_chain

pytestmark = pytest.mark.django_db


def tamper(sql: str) -> None:
    """What somebody with the database's owner rights could do."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql)
        cursor.execute("SET LOCAL session_replication_role = origin")


def three_events() -> list[Event]:
    return [
        append_event(kind=f"test.{word}", data={"word": word, "count": 3, "名": "値"})
        for word in ("one", "two", "three")
    ]


def test_chain_of_real_events_verifies(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    submit(make_person("ada"), make_model())
    report = verify_chain()
    assert (report.ok, report.events, report.first_bad) == (True, Event.objects.count(), None)
    assert report.events >= 4


@pytest.mark.parametrize(
    ("sql", "first_bad"),
    [
        ("UPDATE access_requests_event SET data = '{}' WHERE number = 2", 2),
        ("UPDATE access_requests_event SET actor_name = 'somebody' WHERE number = 1", 1),
        ("UPDATE access_requests_event SET at = at + interval '1 microsecond' WHERE number = 3", 3),
        ("DELETE FROM access_requests_event WHERE number = 2", 2),
        ("DELETE FROM access_requests_event WHERE number = 1", 1),
    ],
)
def test_verify_names_the_first_event_that_was_tampered_with(sql: str, first_bad: int) -> None:
    three_events()
    tamper(sql)
    report = verify_chain()
    assert (report.ok, report.first_bad) == (False, first_bad)


def test_rewritten_event_with_fitting_hash_breaks_the_next() -> None:
    from access_requests.services.audit import event_hash

    three_events()
    second = Event.objects.get(number=2)
    second.data = {"word": "forged"}
    tamper(
        f"UPDATE access_requests_event SET data = '{{\"word\": \"forged\"}}', hash = '{event_hash(second)}' WHERE number = 2"
    )
    assert verify_chain().first_bad == 3


@pytest.mark.parametrize(
    "sql", ["UPDATE access_requests_event SET kind = 'x'", "DELETE FROM access_requests_event"]
)
def test_database_refuses_to_change_or_delete_events(sql: str) -> None:
    three_events()
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
    assert verify_chain().ok


def test_database_refuses_to_empty_the_log() -> None:
    three_events()
    migration = importlib.import_module("access_requests.migrations.0003_append_only")
    statements = migration.append_only("access_requests_event").strip().splitlines()
    (truncate,) = [line for line in statements if "TRUNCATE" in line]
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(truncate)
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("TRUNCATE access_requests_event")
    assert Event.objects.count() == 3


def test_event_names_its_actor_also_after_a_rename(make_person: Callable[..., Any]) -> None:
    person = make_person("ada")
    event = append_event(kind="test.done", actor=person)
    person.username = "other"
    person.save()
    event.refresh_from_db()
    assert event.actor_name == "ada"
    assert verify_chain().ok
