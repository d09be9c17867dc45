from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from access_requests.enums import Outcome, RequestState
from access_requests.models import AccessRequest, Event, GatedModel, Grant
from access_requests.services.audit import append_event, verify_chain
from access_requests.services.catalogue import LicenceText, assign_role, replace_licences, update_card
from access_requests.services.editing import change_settings
from access_requests.services.grants import close_ended_grants, grant_access
from access_requests.services.requests import record_decision
from access_requests.services.tokens import issue_token
from tests.conftest import TULU_CARD
from tests.threads import all_at_once

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


@pytest.mark.django_db(transaction=True)
def test_services_that_append_at_once_never_wait_for_each_other_in_a_circle(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    """An owner changes a model while its requests are decided, its tokens made, and grants end and are renewed."""
    model, olga = make_model(), make_person("olga")
    assign_role(model=model, user=olga, role="owner")
    people = [make_person(f"ada{number}") for number in range(3)]
    for person in people:
        ended = grant_access(model=model, email=person.email, days=1).grant
        long_ago = timezone.now() - timedelta(days=3)
        Grant.objects.filter(pk=ended.pk).update(starts_at=long_ago, ends_at=long_ago + timedelta(days=1))
    requests = [submit(person, model) for person in people]
    holder = grant_access(model=model, email="holder@example.org", days=1)

    def one_of_them(number: int) -> None:
        for turn in range(8):
            if number == 0:
                change_settings(model=model, gate="manual", grant_days=10 + turn, listed=True)
            elif number == 1:
                replace_licences(
                    model=model, licences=[LicenceText("licence.txt", "en", f"Be good {turn}.\n")]
                )
                update_card(model=GatedModel.objects.get(pk=model.pk), card=f"{TULU_CARD}\n{turn}")
            elif number == 2:
                issue_token(grant=holder.grant, user=holder.user, name=f"token {turn}")
            elif number == 3:
                close_ended_grants()
            elif turn < len(requests):
                record_decision(request=requests[turn], reviewer=olga, outcome=Outcome.APPROVED)

    all_at_once(5, one_of_them)

    assert AccessRequest.objects.filter(state=RequestState.APPROVED).count() == 3
    assert Grant.objects.filter(closed_at=None).count() == 4
    assert verify_chain().ok
