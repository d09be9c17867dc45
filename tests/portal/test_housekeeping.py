"""Rows that have ended are deleted after a fixed time, in batches, by one job; everything else stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from access_requests.enums import MailState
from access_requests.models import AccessToken, Event, OutgoingMail, TokenExchange, TrustedRepository
from access_requests.services import delete_expired
from access_requests.services.tokens import issue_person_token
from portal import housekeeping
from tests.plans import explained
from tests.sign_in import sign_in
from tests.threads import all_at_once

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def queue(key: str, state: str, *, days: float) -> None:
    mail = OutgoingMail.objects.create(key=key, to="ada@example.org", subject=key, text="t", state=state)
    OutgoingMail.objects.filter(pk=mail.pk).update(created_at=timezone.now() - days * DAY)


def test_emails_that_were_sent_go_after_their_time_and_others_stay(settings: Any) -> None:
    settings.GATEHOUSE_KEEP_MAIL_DAYS = 30
    for state in MailState.values:
        queue(f"old {state}", state, days=31)
        queue(f"new {state}", state, days=29)
    assert not housekeeping.clear_ended()
    assert set(OutgoingMail.objects.values_list("key", flat=True)) == {
        *("new waiting", "new sent", "new failed", "new expired", "old waiting", "old failed"),
    }


def test_sessions_go_some_days_after_they_ended(make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    browsers = {name: sign_in(Client(), ada) for name in ("alive", "resting", "ended", "long ended")}
    keys = {name: browser.session.session_key for name, browser in browsers.items()}
    now, life = timezone.now(), timedelta(seconds=django_settings.SESSION_COOKIE_AGE)
    UserSession.objects.all().delete()
    for name, days in {"alive": 0, "resting": 20, "ended": 16, "long ended": 22}.items():
        UserSession.objects.create(
            user=ada, ip="192.0.2.1", session_key=keys[name], user_agent="x", last_seen_at=now - days * DAY
        )
    Session.objects.filter(session_key=keys["ended"]).update(expire_date=now + life - 16 * DAY)
    Session.objects.filter(session_key=keys["long ended"]).update(expire_date=now + life - 22 * DAY)
    assert not housekeeping.clear_ended()
    left = {keys["alive"], keys["resting"], keys["ended"]}
    assert set(Session.objects.values_list("session_key", flat=True)) == left
    assert set(UserSession.objects.values_list("session_key", flat=True)) == left
    assert browsers["alive"].get("/me/").status_code == 200


def test_exchanged_identities_go_and_their_tokens_and_events_stay(make_person: Callable[..., Any]) -> None:
    ada = make_person("ada")
    trusted = TrustedRepository.objects.create(user=ada, issuer="https://ci.example", repository="a/b")
    for number, days in enumerate([6, 8]):
        token = issue_person_token(user=ada, kind="user", name=f"ci {number}").token
        TokenExchange.objects.create(
            trusted=trusted, token=token, identity=f"{number}", at=timezone.now() - days * DAY
        )
    events = Event.objects.count()
    assert not housekeeping.clear_ended()
    assert list(TokenExchange.objects.values_list("identity", flat=True)) == ["0"]
    assert (AccessToken.objects.count(), Event.objects.count()) == (2, events)


def test_much_is_deleted_in_batches_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete_expired, "BATCH", 2)
    for number in range(5):
        queue(f"{number}", MailState.SENT, days=91)
    assert housekeeping.clear_ended(seconds=0)
    assert OutgoingMail.objects.count() == 5
    assert [delete_expired.clear_emails(), delete_expired.clear_emails()] == [2, 2]
    assert OutgoingMail.objects.get().key == "4"  # the oldest row is deleted first
    assert not housekeeping.clear_ended()
    assert not OutgoingMail.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_jobs_at_once_do_not_meet() -> None:
    queue("one", MailState.SENT, days=91)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [delete_expired.CLEARING_LOCK])
        assert all_at_once(1, lambda _: delete_expired.clear_emails()) == [0]
    assert delete_expired.clear_emails() == 1


@pytest.mark.parametrize(
    ("clear", "index"),
    [
        (delete_expired.clear_emails, "mail_done"),
        (delete_expired.clear_device_codes, "device_code_"),
        (delete_expired.clear_exchanges, "exchange_at"),
        (housekeeping.clear_sessions, "django_session_expire_date"),
        (housekeeping.clear_seen_sessions, "session_last_seen"),
    ],
)
def test_what_is_deleted_is_found_by_an_index(clear: Callable[[], int], index: str) -> None:
    with explained() as plans:
        assert clear() == 0
    assert index in "\n".join(plans)
