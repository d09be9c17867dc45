from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import mail as sent
from django.db import connection, transaction
from django.utils import timezone

from access_requests.models import FollowedRepo, OutgoingMail, RemoteRequest
from access_requests.services.emails.send import send_due
from access_requests.services.emails.write import queue_mail
from access_requests.services.following import noticing
from tests.access_requests.services.following.conftest import Sides
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db
POLLING = """
import json, sys
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
settings.GATEHOUSE_FOLLOW_TOKENS = json.loads(sys.argv[2])
django.setup()
from access_requests.services.following import polling
polling.poll(followed_id=int(sys.argv[3]))
"""
WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # otherwise the snapshot never changes
        cursor.execute(WAITS)
        return cursor.fetchone()[0]


def send_all() -> list[str]:
    """End the hold of every email, send what is due, and return the subjects sent so far."""
    OutgoingMail.objects.filter(sent_at=None).update(next_try_at=timezone.now())
    send_due()
    return sorted(mail.subject for mail in sent.outbox)


@pytest.mark.django_db(transaction=True)
def test_mail_of_a_poll_whose_process_was_killed_goes_out_once(sides: Sides, settings: Any) -> None:
    names = [sides.ask() for _ in range(3)]
    place = re.sub(r"[^a-z0-9]+", ".", sides.followed.host)
    FollowedRepo.objects.update(next_poll_at=timezone.now())
    arguments = [str(connection.settings_dict["NAME"]), json.dumps(settings.GATEHOUSE_FOLLOW_TOKENS)]
    # Whether the list is read from its start or its end, the second person has to wait for this name.
    with transaction.atomic():
        get_user_model().objects.create(username=f"{names[1]}.{place}", email="taken@example.org")
        child = subprocess.Popen([sys.executable, "-c", POLLING, *arguments, str(sides.followed.pk)])
        try:
            wait_until(waiting)
        finally:
            child.kill()
            child.wait(20)
        transaction.set_rollback(True)
    first = RemoteRequest.objects.get()
    assert first.person.name in {names[0], names[2]}
    held = OutgoingMail.objects.get()
    assert held.next_try_at > timezone.now()
    send_due()
    assert sent.outbox == []
    FollowedRepo.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    sides.poll()
    sides.poll()
    assert {remote.person.name for remote in RemoteRequest.objects.all()} == set(names)
    host = sides.followed.host
    both = [f"1 new request for ai/tulu from {host}", f"2 new requests for ai/tulu from {host}"]
    assert send_all() == both
    assert send_all() == both
    assert {tuple(mail.to) for mail in sent.outbox} == {("rita@example.org",)}


def test_mail_is_due_when_its_poll_is_over(sides: Sides) -> None:
    sides.ask()
    sides.poll()
    assert OutgoingMail.objects.get().next_try_at <= timezone.now()
    assert [send_due(), send_due()] == [1, 0]


@pytest.mark.django_db(transaction=True)
def test_request_that_is_not_taken_in_is_in_no_mail(sides: Sides, as_owner: Any) -> None:
    sides.ask()
    name = sides.ask()
    as_owner.execute(
        "CREATE FUNCTION refuse_mail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE unique_violation; END $$; "
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON access_requests_outgoingmail NOT DEFERRABLE "
        "FOR EACH ROW EXECUTE FUNCTION refuse_mail()"
    )
    try:
        sides.poll()
        assert (RemoteRequest.objects.count(), sides.followed.unread) == (0, 2)
    finally:
        as_owner.execute("DROP FUNCTION refuse_mail() CASCADE")
    sides.poll()
    assert (RemoteRequest.objects.count(), sides.remote(name).missed) == (2, 0)
    assert OutgoingMail.objects.get().subject.startswith("2 new requests")


def test_mail_that_left_while_its_poll_went_on_is_followed_by_one_of_the_rest(sides: Sides) -> None:
    notice = noticing.Notice(sides.followed)
    for name in [sides.ask() for _ in range(5)]:
        sides.poll()
        OutgoingMail.objects.filter(
            key__endswith=f":{sides.remote(name).request_id}:{sides.rita.pk}"
        ).delete()
    first, second, *rest = RemoteRequest.objects.order_by("pk")
    for remote in (first, second):
        notice.write(remote)
        notice.keep()
    assert OutgoingMail.objects.get().subject.startswith("2 new requests")
    OutgoingMail.objects.update(next_try_at=timezone.now())
    assert send_due() == 1
    for remote in rest:
        notice.write(remote)
        notice.keep()
    notice.send()
    assert send_due() == 1
    assert [mail.subject[:6] for mail in sent.outbox] == ["2 new ", "3 new "]


def test_mail_without_a_hold_is_due_at_once(make_person: Any) -> None:
    mail = queue_mail(
        key="x",
        to="a@example.org",
        template="mails/machine_signed_in.txt",
        context={"person": make_person("ada"), "machine": None},
    )
    assert mail.next_try_at <= timezone.now()
