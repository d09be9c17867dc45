"""Send emails: claim one, send it without locks or an open transaction, then record the result.

If a process dies after the server accepted an email but before that is recorded, its claim expires. The email is then
sent again with the same Message-ID, so that mailboxes can recognise the second copy.
"""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime, parseaddr
from typing import Any

import django
from django.conf import settings
from django.core import mail as django_mail
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.encoding import punycode

from access_requests.enums import MailState
from access_requests.models import OutgoingMail
from access_requests.services import leases
from access_requests.services.emails import mail_server
from access_requests.services.emails.mail_server import Blame, Unreachable, Verdict, judge
from access_requests.services.emails.write import wake

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 40  # with the pauses below about five days: longer than a weekend
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(hours=4)
LOOK_AT = 5  # rows of each kind that are read in order to claim one
DROP_AT_ONCE = 500


def send_due(*, seconds: float = 20) -> int:
    """Send what is due over one connection, pressing emails first; return how many the server took.

    Stop when nothing is due, when the server is paused, or after `seconds`; then queue a task for the rest.
    """
    drop_useless()
    until, sent = time.monotonic() + seconds, 0
    with Server() as server:
        while (more := _send_next(server)) is not None:
            sent += more
            if time.monotonic() >= until:
                wake()
                break
    return sent


def drop_useless() -> int:
    """Give up emails whose code or link has expired, and delete their text; return how many."""
    ended = OutgoingMail.objects.filter(
        _is_unclaimed(), state__in=[MailState.WAITING, MailState.FAILED], useless_after__lte=timezone.now()
    )
    some = ended.order_by("useless_after").values("pk")[:DROP_AT_ONCE]
    return ended.filter(pk__in=list(some.values_list("pk", flat=True))).update(
        state=MailState.EXPIRED, text=""
    )


def _is_unclaimed() -> Q:
    return Q(lease_owner="") | Q(lease_until__lt=Now())


def _due_emails() -> QuerySet[OutgoingMail]:
    now = timezone.now()
    useful = Q(useless_after=None) | Q(useless_after__gt=now)
    return OutgoingMail.objects.filter(
        _is_unclaimed() & useful, state=MailState.WAITING, next_try_at__lte=now
    ).order_by("next_try_at")


def _send_next(server: Server) -> int | None:
    """Send one email and return 1, or 0 if it did not leave; None when there is nothing to do now.

    Pressing emails come first. After a pause, start with the email that has waited longest; if the server
    fails on it, it goes to the end.
    """
    rows = _due_emails().values_list("pk", "next_try_at")
    found = [*rows.filter(pressing=True)[:LOOK_AT], *rows.filter(pressing=False)[:LOOK_AT]]
    if not found:
        return None
    seen = mail_server.take_turn()
    if seen is None:
        return None
    if seen:
        found.sort(key=lambda row: row[1])
    for pk, _ in found:
        if owner := leases.claim(_due_emails().filter(pk=pk)):
            return int(_send_claimed(OutgoingMail.objects.get(pk=pk), owner, server=server, seen=seen))
    mail_server.give_back(seen=seen)
    return 0  # other processes were faster: there may be more


def _send_claimed(mail: OutgoingMail, owner: str, *, server: Server, seen: int) -> bool:
    held = OutgoingMail.objects.filter(pk=mail.pk, lease_owner=owner)
    try:
        server.send(message_of(mail))
    except Exception as error:  # whatever the mail server does, the email must be kept
        verdict = judge(error)
        log.warning("Email %s was not sent: %s", mail.pk, verdict.sentence)
        changes = _note_failed_send(mail, verdict, seen=seen)
        sent = False
    else:
        mail_server.note_answer(seen=seen)
        changes = {"state": MailState.SENT, "sent_at": timezone.now(), "last_error": ""}
        changes |= {"attempts": mail.attempts + 1} | ({"text": ""} if mail.pressing else {})
        sent = True
    if not held.update(lease_owner="", **changes):
        log.warning("Email %s was claimed by another process meanwhile", mail.pk)
    return sent


def _note_failed_send(mail: OutgoingMail, verdict: Verdict, *, seen: int) -> dict[str, Any]:
    """Record what is known of the mail server, and return the changes to store.

    While the server is known to fail, a failure does not count as an attempt of the email.
    """
    attempts, pause = mail.attempts + 1, timedelta(0)
    if verdict.blame is Blame.SERVER:
        pause = mail_server.note_failure(seen=seen, sentence=verdict.sentence)
        attempts -= 1 if seen else 0
    else:
        mail_server.note_answer(seen=seen)
    own = min(FIRST_PAUSE * 2 ** min(max(attempts - 1, 0), 20), LONGEST_PAUSE)
    given_up = verdict.blame is Blame.NEVER or attempts >= MAX_ATTEMPTS
    return {
        "attempts": attempts,
        "last_error": verdict.sentence[:1000],
        "next_try_at": timezone.now() + (pause if attempts == mail.attempts else max(pause, own)),
        "state": MailState.FAILED if given_up else MailState.WAITING,
    }


def message_of(mail: OutgoingMail) -> EmailMessage:
    """Return the email as it is sent. Its id and date are the same at every attempt."""
    headers = {
        "Message-ID": message_id(mail.key),
        "Date": format_datetime(mail.created_at),
        "Auto-Submitted": "auto-generated",
    }
    return EmailMessage(mail.subject, mail.text, settings.DEFAULT_FROM_EMAIL, [mail.to], headers=headers)


def message_id(key: str) -> str:
    """Return the Message-ID of the email with this key; it does not reveal the key."""
    digest = hashlib.sha256(f"{settings.GATEHOUSE_URL}\n{key}".encode()).hexdigest()
    host = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    return f"<{digest[:40]}@{punycode(host)}>"


class Server:
    """A connection to the mail server for a batch of emails: opened for the first, and again after an error."""

    def __init__(self) -> None:
        self._backend: BaseEmailBackend | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_backend()

    def send(self, message: EmailMessage) -> None:
        """Send one email, or raise an error that `judge` understands.

        Servers may end a connection after a number of emails: if a used connection fails, it is replaced
        once.
        """
        if self._backend is not None:
            try:
                self._backend.send_messages([message])
            except Exception as error:
                self._close_backend()
                if judge(error).blame is not Blame.SERVER:
                    raise
            else:
                return
        self._backend = backend = _new_backend()
        try:
            backend.open()
        except Exception as error:
            self._close_backend()
            raise Unreachable from error
        try:
            backend.send_messages([message])
        except Exception:
            self._close_backend()
            raise

    def _close_backend(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            with suppress(Exception):  # the emails are sent, even if closing the connection fails
                backend.close()


def _new_backend() -> BaseEmailBackend:
    if django.VERSION >= (6, 1):
        return django_mail.mailers.default
    return django_mail.get_connection()
