"""Emails to a mail server that works, refuses, fails or hangs; what is stored, and who is tried next."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.enums import MailState
from access_requests.errors import Conflict
from access_requests.models import MailServer, OutgoingMail
from access_requests.services.emails import mail_server
from access_requests.services.emails.mail_server import Blame, Unreachable, judge
from access_requests.services.emails.send import MAX_ATTEMPTS, message_id, send_due
from access_requests.services.emails.write import queue_pressing, revise_mail, try_again
from portal import smtp
from tests.plans import explained
from tests.smtp import SmtpServer, serving

pytestmark = pytest.mark.django_db
SECONDS = timedelta(seconds=1)


@pytest.fixture
def server(mail_through: Callable[..., None]) -> Generator[SmtpServer]:
    with serving() as started:
        mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=started.port, timeout=20)
        yield started


def queue(name: str, **fields: Any) -> OutgoingMail:
    """Queue an email that is due after all those queued before it."""
    to = f"{name.partition(':')[0]}@example.org"
    mail = OutgoingMail.objects.create(key=name, to=to, subject=name, text="Text\n", **fields)
    mail.refresh_from_db()
    return mail


def again(mail: OutgoingMail) -> OutgoingMail:
    return OutgoingMail.objects.get(pk=mail.pk)


def end_pause() -> None:
    """End the pause of the server, and that of every email."""
    MailServer.objects.update(paused_until=timezone.now() - SECONDS)
    OutgoingMail.objects.filter(next_try_at__gt=timezone.now()).update(next_try_at=timezone.now())


def test_batch_goes_over_one_connection_and_pressing_emails_first(server: SmtpServer) -> None:
    for name in ("one", "two"):
        queue(name)
    queue_pressing(to="ada@example.org", subject="code", text="ABCD-EFGH\n", useful_for=timedelta(minutes=15))
    assert send_due() == 3
    assert (server.subjects, len(server.commands)) == (["code", "one", "two"], 1)
    assert send_due() == 0
    assert len(server.commands) == 1
    sent = OutgoingMail.objects.order_by("pk")
    assert [(mail.state, mail.attempts, mail.lease_owner) for mail in sent] == [(MailState.SENT, 1, "")] * 3
    assert [mail.text for mail in sent] == ["Text\n", "Text\n", ""]  # a code gives access to an account


def test_email_says_who_wrote_it_when_and_which_it_is(server: SmtpServer, settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = "Gatehouse <gate@pörtal.example>"
    mail = queue("decision:12")
    OutgoingMail.objects.update(created_at=timezone.now() - timedelta(days=1))
    send_due()
    (message,) = server.emails
    assert message["Auto-Submitted"] == "auto-generated"
    assert parsedate_to_datetime(str(message["Date"])) == again(mail).created_at.replace(microsecond=0)
    assert message["Message-ID"] == message_id("decision:12")
    assert message["Message-ID"].endswith("@xn--prtal-jua.example>")
    assert "decision" not in message["Message-ID"]
    assert message_id("decision:12") != message_id("decision:13")


def test_second_copy_has_the_same_id(server: SmtpServer) -> None:
    mail = queue("one")
    send_due()
    # The process died before it could record that the server accepted it.
    OutgoingMail.objects.update(
        state=MailState.WAITING, lease_owner="dead", lease_until=timezone.now() + timedelta(minutes=1)
    )
    assert send_due() == 0
    OutgoingMail.objects.update(lease_until=timezone.now() - SECONDS)
    assert send_due() == 1
    first, second = server.emails
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]
    assert again(mail).state == MailState.SENT


@pytest.mark.django_db(transaction=True)
def test_while_the_server_is_asked_no_row_is_locked_and_no_transaction_is_open(server: SmtpServer) -> None:
    mail = queue("one")
    server.say["END"] = lambda conversation: server.hang(conversation) or "250 late"
    sending = threading.Thread(target=lambda: (send_due(), connection.close()))
    sending.start()
    try:
        assert server.hanging.wait(60)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'"
            )
            assert cursor.fetchone() == (0,)
            cursor.execute(
                "SELECT id FROM access_requests_outgoingmail WHERE id = %s FOR UPDATE NOWAIT", [mail.pk]
            )
        claimed = again(mail)
        assert claimed.lease_owner
        assert send_due() == 0  # another process does not touch it
        assert not revise_mail(key="one", template="mails/revoked.txt", context={}, hold=SECONDS)
    finally:
        server.released.set()
        sending.join()
    assert again(mail).state == MailState.SENT
    assert server.subjects == ["one"]


@pytest.mark.django_db(transaction=True)
def test_result_of_a_claim_that_was_lost_is_not_written(server: SmtpServer) -> None:
    mail = queue("one")
    server.say["END"] = lambda conversation: server.hang(conversation) or "451 4.7.1 later"
    sending = threading.Thread(target=lambda: (send_due(), connection.close()))
    sending.start()
    try:
        assert server.hanging.wait(60)
        OutgoingMail.objects.update(lease_owner="another", lease_until=timezone.now() + timedelta(minutes=1))
    finally:
        server.released.set()
        sending.join()
    left = again(mail)
    assert (left.lease_owner, left.attempts, left.last_error) == ("another", 0, "")


@pytest.mark.parametrize(
    ("what", "answer", "state"),
    [
        ("RCPT one@example.org", "550 5.1.1 no such user", MailState.FAILED),
        ("RCPT one@example.org", "550 no such user", MailState.FAILED),
        ("RCPT one@example.org", "554 5.7.1 relay access denied", MailState.WAITING),
        ("RCPT one@example.org", "450 4.2.0 greylisted", MailState.WAITING),
    ],
)
def test_refusal_of_one_recipient_concerns_that_email_only(
    server: SmtpServer, what: str, answer: str, state: str
) -> None:
    server.say[what] = answer
    refused, other = queue("one"), queue("two")
    assert send_due() == 1
    assert (again(other).state, MailServer.objects.count()) == (MailState.SENT, 0)
    refused = again(refused)
    assert (refused.state, refused.attempts, refused.last_error) == (state, 1, answer)
    if state == MailState.FAILED:
        del server.say[what]
        try_again(mail=refused)
        assert send_due() == 1
        with pytest.raises(Conflict):
            try_again(mail=refused)
    else:
        assert refused.next_try_at > timezone.now()
        assert send_due() == 0


def test_email_that_is_refused_for_days_is_given_up(server: SmtpServer) -> None:
    server.say["RCPT one@example.org"] = "450 4.2.0 greylisted"
    mail = queue("one", attempts=MAX_ATTEMPTS - 1)
    send_due()
    assert (again(mail).state, again(mail).attempts) == (MailState.FAILED, MAX_ATTEMPTS)


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("CONNECT", "421 4.3.2 too busy"),
        ("CONNECT", "554 no service"),
        ("MAIL", "451 4.3.0 out of order"),
        ("RCPT one@example.org", "421 4.4.2 closing"),
        ("RCPT one@example.org", "530 5.7.0 sign in first"),
        ("RCPT one@example.org", "451 4.3.0 lookup failed"),
        ("DATA", "421 closing"),
        ("END", "452 4.3.1 no room"),
    ],
)
def test_failure_of_the_server_pauses_all_emails(server: SmtpServer, what: str, answer: str) -> None:
    server.say[what] = answer
    first, second = queue("one"), queue("two")
    assert send_due() == 0
    failing = mail_server.outage()
    assert failing is not None
    assert (failing.failures, failing.last_error) == (1, answer)
    assert failing.paused_until > timezone.now()
    asked = len(server.commands)
    assert (send_due(), len(server.commands)) == (0, asked)
    assert [again(mail).attempts for mail in (first, second)] == [1, 0]
    del server.say[what]
    end_pause()
    assert send_due() == 2
    assert mail_server.outage() is None
    assert sorted(server.subjects) == ["one", "two"]


def test_attempts_during_an_outage_are_not_counted_and_pauses_grow(
    server: SmtpServer, mail_through: Callable[..., None]
) -> None:
    mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=1, timeout=20)
    mails, pauses = [queue("one"), queue("two")], []
    for _ in range(8):
        assert send_due() == 0
        failing = mail_server.outage()
        assert failing is not None
        pauses.append(round((failing.paused_until - timezone.now()).total_seconds()))
        end_pause()
    assert pauses == sorted(pauses)
    assert (pauses[0] <= 15, 295 <= pauses[-1] <= 300) == (True, True)
    assert [again(mail).attempts for mail in mails] == [1, 0]
    assert "ConnectionRefusedError" in again(mails[0]).last_error
    mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=server.port, timeout=20)
    assert send_due() == 2


def test_after_a_pause_one_email_is_tried_and_the_one_that_failed_last_is_not_it(server: SmtpServer) -> None:
    """One email that makes the server fail does not hold up the rest: the next trial takes another."""
    server.say["RCPT poison@example.org"] = "421 4.3.0 I fell over"
    poison = queue_pressing(to="poison@example.org", subject="poison", text="x", useful_for=timedelta(days=1))
    assert send_due() == 0
    queue("one")
    MailServer.objects.update(paused_until=timezone.now() - SECONDS)
    OutgoingMail.objects.filter(pk=poison.pk).update(next_try_at=timezone.now())
    OutgoingMail.objects.exclude(pk=poison.pk).update(next_try_at=timezone.now() - SECONDS)
    assert send_due() == 1
    assert server.subjects == ["one"]
    assert again(poison).attempts == 2  # the server worked when this was tried, so both attempts count


@pytest.mark.django_db(transaction=True)
def test_trial_is_one_process_alone(server: SmtpServer) -> None:
    server.say["CONNECT"] = "421 busy"
    queue("one")
    send_due()
    queue("two")
    end_pause()
    server.say["CONNECT"] = lambda conversation: server.hang(conversation) or "421 still busy"
    trial = threading.Thread(target=lambda: (send_due(), connection.close()))
    trial.start()
    try:
        assert server.hanging.wait(60)
        asked = len(server.commands)
        assert (send_due(), len(server.commands)) == (0, asked)
    finally:
        server.released.set()
        trial.join()
    failing = mail_server.outage()
    assert failing is not None
    assert failing.failures == 2


def test_pause_without_an_email_to_try_is_over_for_the_next(server: SmtpServer) -> None:
    MailServer.objects.create(
        pk=1, failures=3, failing_since=timezone.now(), paused_until=timezone.now() - SECONDS
    )
    assert send_due() == 0
    queue("one")
    assert send_due() == 1
    assert mail_server.outage() is None


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_silent_or_dripping_server_pauses_emails(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(smtp, "LONGEST", 0.5)
    server.say["CONNECT"] = getattr(server, how)
    mail = queue("one")
    assert send_due() == 0
    assert again(mail).last_error == "TimeoutError: the mail server took longer than 0 s"
    assert mail_server.outage() is not None


def test_connection_that_has_carried_enough_is_replaced(server: SmtpServer) -> None:
    def at_most_one(conversation: Any) -> str:
        return "421 4.7.0 enough for this connection" if len(conversation.said) > 4 else "250 fine"

    server.say["MAIL"] = at_most_one
    for name in ("one", "two", "three"):
        queue(name)
    assert send_due() == 3
    assert (server.subjects, len(server.commands)) == (["one", "two", "three"], 3)
    assert mail_server.outage() is None


def test_email_whose_code_has_ended_is_dropped_with_its_text(server: SmtpServer) -> None:
    server.say["CONNECT"] = "421 busy"
    mail = queue_pressing(
        to="ada@example.org", subject="code", text="ABCD\n", useful_for=timedelta(minutes=15)
    )
    send_due()
    assert again(mail).text == "ABCD\n"
    OutgoingMail.objects.update(useless_after=timezone.now() - SECONDS)
    del server.say["CONNECT"]
    end_pause()
    assert send_due() == 0
    assert (again(mail).state, again(mail).text, server.emails) == (MailState.EXPIRED, "", [])
    with pytest.raises(Conflict):
        try_again(mail=mail)


def test_code_that_was_replaced_is_not_sent(server: SmtpServer) -> None:
    def ask(name: str, instead_of: OutgoingMail | None = None) -> OutgoingMail:
        return queue_pressing(
            to=f"{name}@example.org",
            subject="code",
            text="x\n",
            useful_for=timedelta(minutes=15),
            instead_of=instead_of.pk if instead_of else None,
        )

    server.say["CONNECT"] = "421 busy"
    first, other, bobs = ask("ada"), ask("ada"), ask("bob")
    second = ask("ada", instead_of=first)
    ask("ada", instead_of=bobs)
    send_due()
    del server.say["CONNECT"]
    end_pause()
    send_due()
    assert (again(first).state, again(first).text) == (MailState.EXPIRED, "")
    assert {again(mail).state for mail in (other, bobs, second)} == {MailState.SENT}


def test_batch_ends_in_time_and_asks_for_the_rest(server: SmtpServer) -> None:
    for name in ("one", "two"):
        queue(name)
    assert [send_due(seconds=0), send_due(seconds=0), send_due(seconds=0)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (smtplib.SMTPServerDisconnected("gone"), Blame.SERVER),
        (TimeoutError("silent"), Blame.SERVER),
        (ConnectionResetError("reset"), Blame.SERVER),
        (Unreachable(), Blame.SERVER),
        (smtplib.SMTPSenderRefused(552, b"too big", "us@example.org"), Blame.NEVER),
        (smtplib.SMTPSenderRefused(553, b"not you", "us@example.org"), Blame.SERVER),
        (smtplib.SMTPDataError(554, b"5.6.0 unreadable"), Blame.NEVER),
        (smtplib.SMTPDataError(450, b"4.7.1 later"), Blame.LATER),
        (smtplib.SMTPNotSupportedError("no SMTPUTF8"), Blame.NEVER),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), Blame.NEVER),
        (RuntimeError("what is this"), Blame.LATER),
    ],
)
def test_errors_and_whose_they_are(error: Exception, blame: Blame) -> None:
    assert judge(error).blame is blame


def test_what_is_due_is_found_by_indexed_reads_that_do_not_grow(server: SmtpServer) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            send_due()
        return len(asked)

    few = queries()
    later = timezone.now() + timedelta(hours=1)
    OutgoingMail.objects.bulk_create(
        OutgoingMail(key=f"k{n}", to="a@example.org", subject="s", text="t", state=state, next_try_at=later)
        for n, state in enumerate([MailState.SENT, MailState.WAITING] * 500)
    )
    assert queries() == few
    MailServer.objects.create(pk=1, failures=1, paused_until=later)
    OutgoingMail.objects.update(next_try_at=timezone.now())
    assert queries() == few + 2  # reads the pause, and finds it over


def test_what_is_sent_next_and_what_is_dropped_is_found_by_an_index() -> None:
    with explained(among="outgoingmail") as plans:
        assert send_due() == 0
    assert ["mail_useless" in plans[0], "mail_next" in plans[1], "mail_next" in plans[2]] == [True] * 3
    assert not any("Seq Scan" in plan or "Sort" in plan for plan in plans)
