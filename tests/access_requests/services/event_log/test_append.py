from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from access_requests.enums import Outcome, RequestState
from access_requests.models import AccessRequest, Event, EventLink, GatedModel, Grant
from access_requests.services.catalogue.edit import change_settings
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences, update_card
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import append_event, event_digest, link_hash, verify_chain
from access_requests.services.grants import close_ended_grants, grant_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.tokens import issue_token
from tests.conftest import TULU_CARD
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def tamper(as_owner: Any) -> Callable[[str], None]:
    """Return a call that runs SQL as the database's owner without the triggers."""

    def do(sql: str) -> None:
        as_owner.execute("SET session_replication_role = replica")
        as_owner.execute(sql)
        as_owner.execute("SET session_replication_role = origin")

    return do


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


NUMBERED = "(SELECT event_id FROM access_requests_eventlink WHERE number = {})"


@pytest.mark.parametrize(
    ("sql", "first_bad"),
    [
        (f"UPDATE access_requests_event SET facts = '{{}}' WHERE id = {NUMBERED.format(2)}", 2),
        (f"UPDATE access_requests_event SET writer = 'policy' WHERE id = {NUMBERED.format(1)}", 1),
        (
            f"UPDATE access_requests_event SET at = at + interval '1 microsecond' WHERE id = {NUMBERED.format(3)}",
            3,
        ),
        (f"UPDATE access_requests_eventtext SET text = '\"x\"' WHERE event_id = {NUMBERED.format(3)}", 3),
        (
            f"UPDATE access_requests_eventtext SET salt = NULL, text = NULL WHERE event_id = {NUMBERED.format(2)}",
            2,
        ),
        (f"DELETE FROM access_requests_eventtext WHERE event_id = {NUMBERED.format(2)}", 2),
        ("DELETE FROM access_requests_eventlink WHERE number = 2", 2),
        ("DELETE FROM access_requests_eventlink WHERE number = 3", 3),
        ("UPDATE access_requests_eventlink SET number = 7 WHERE number = 1", 1),
        (f"DELETE FROM access_requests_event WHERE id = {NUMBERED.format(1)}", 1),
    ],
)
def test_verify_names_the_first_event_that_was_tampered_with(
    tamper: Callable[[str], None], sql: str, first_bad: int
) -> None:
    three_events()
    tamper(sql)
    report = verify_chain()
    assert (report.ok, report.first_bad) == (False, first_bad)


def test_rewritten_event_with_fitting_hashes_breaks_the_next(tamper: Callable[[str], None]) -> None:
    three_events()
    assert verify_chain().ok
    second = EventLink.objects.get(number=2)
    second.event.facts = {"count": 4}
    digest = event_digest(second.event)
    forged = link_hash(2, second.previous_hash, digest)
    tamper(
        f"UPDATE access_requests_event SET facts = '{{\"count\": 4}}', digest = '{digest}' WHERE id = {second.event_id};"
        f" UPDATE access_requests_eventlink SET hash = '{forged}' WHERE number = 2"
    )
    assert verify_chain().first_bad == 3


def test_text_of_an_event_is_beside_it_and_not_in_it(make_person: Callable[..., Any]) -> None:
    event = append_event(kind="test.said", actor=make_person("ada"), data={"words": "Dear Ada", "licence": 3})
    assert (event.facts, event.writer) == ({"licence": 3}, "")
    found = Event.objects.get(pk=event.pk)
    assert (found.actor_name, found.data) == ("ada", {"words": "Dear Ada", "licence": 3})
    assert "Dear Ada" not in repr(Event.objects.values()[0])


def test_same_text_has_another_digest_each_time() -> None:
    one, two = (append_event(kind="test.said", data={"words": "Yes."}) for _ in range(2))
    assert one.digests["words"] != two.digests["words"]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\u202egpj", "x" * 100_000, "名", ""])
def test_any_text_is_kept_as_it_was(text: str) -> None:
    event = append_event(kind="test.said", data={"words": text})
    assert Event.objects.get(pk=event.pk).data == {"words": text}
    assert verify_chain().ok


@pytest.mark.django_db(transaction=True)
def test_erased_text_is_gone_and_the_chain_is_whole(make_person: Callable[..., Any], as_owner: Any) -> None:
    def erase() -> int:
        pks = list(event.texts.values_list("pk", flat=True))
        return as_owner.execute("SELECT gatehouse_erase_event_texts(%s, %s)", [pks, olga.pk]).fetchone()[0]

    ada, olga = make_person("ada"), make_person("olga")
    event = append_event(kind="test.said", actor=ada, data={"words": "My address", "licence": 3})
    other = append_event(kind="test.said", actor=olga, data={"words": "Yes."})
    assert erase() == 2
    found = Event.objects.get(pk=event.pk)
    assert (found.actor_name, found.data) == ("(erased)", {"words": "(erased)", "licence": 3})
    assert Event.objects.get(pk=other.pk).data == {"words": "Yes."}
    erasure = Event.objects.latest("pk")
    assert (erasure.kind, erasure.actor_name, len(erasure.data["erased"])) == ("text.erased", "olga", 2)
    assert verify_chain().ok
    assert erase() == 0
    assert Event.objects.latest("pk") == erasure


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE access_requests_event SET kind = 'x'",
        "DELETE FROM access_requests_event",
        "UPDATE access_requests_eventtext SET text = '1'",
        "DELETE FROM access_requests_eventtext",
        "UPDATE access_requests_eventlink SET hash = ''",
        "DELETE FROM access_requests_eventlink",
        "TRUNCATE access_requests_event CASCADE",
    ],
)
def test_database_refuses_its_owner_too_to_change_events(as_owner: Any, sql: str) -> None:
    three_events()
    with pytest.raises(psycopg.DatabaseError, match="append-only"):
        as_owner.execute(sql)
    assert verify_chain().ok


def test_event_names_its_actor_also_after_a_rename(make_person: Callable[..., Any]) -> None:
    person = make_person("ada")
    event = append_event(kind="test.done", actor=person)
    person.username = "other"
    person.save()
    event = Event.objects.get(pk=event.pk)
    assert event.actor_name == "ada"
    assert verify_chain().ok


@pytest.mark.django_db(transaction=True)
def test_services_that_append_at_once_never_wait_for_each_other_in_a_circle(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Callable[..., Any]
) -> None:
    """An owner changes a model while requests are decided, tokens made, and grants end and are renewed."""
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
