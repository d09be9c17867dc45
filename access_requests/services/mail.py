"""Mail is a row first: written with the decision, sent by a worker, tried again until it is through."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from access_requests.enums import MailState
from access_requests.errors import Conflict
from access_requests.models import OutgoingMail
from access_requests.services.queue import enqueue_on_commit

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 40  # with the pauses below about five days, longer than a week-end
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(hours=4)


def queue_mail(
    *, key: str, to: str, template: str, context: dict[str, Any], hold: timedelta | None = None
) -> OutgoingMail | None:
    """Stores the mail in the caller's transaction and wakes a worker; the same key is mailed once.

    Somebody without an address, imported from elsewhere, gets none. `template` is a text file whose first line is `Subject: ...`.
    With `hold` it leaves after that time: until then `revise_mail` changes what it says, and `release_mail` lets it go.
    """
    if not to:
        return None
    mail, created = OutgoingMail.objects.get_or_create(
        key=key, defaults={"to": to, **_written(template, context, hold)}
    )
    if created and not hold:
        enqueue_on_commit("access_requests.tasks.send_mail", mail.pk)
    return mail


def _written(template: str, context: dict[str, Any], hold: timedelta | None) -> dict[str, Any]:
    text = render_to_string(template, {"portal": settings.GATEHOUSE_URL, **context})
    first, _, body = text.lstrip().partition("\n")
    return {
        "subject": " ".join(first.removeprefix("Subject:").split())[:300],
        "text": body.strip() + "\n",
        "next_try_at": timezone.now() + (hold or timedelta(0)),
    }


def revise_mail(*, key: str, template: str, context: dict[str, Any], hold: timedelta) -> bool:
    """Writes a mail anew that nobody has tried to send, and holds it anew; False where there is none."""
    unsent = OutgoingMail.objects.filter(key=key, state=MailState.WAITING, attempts=0)
    return bool(unsent.update(**_written(template, context, hold)))


def release_mail(*, keys: Collection[str]) -> None:
    """Lets mails go that were held and wakes a worker for each."""
    with transaction.atomic():
        held = OutgoingMail.objects.filter(key__in=keys, state=MailState.WAITING, attempts=0)
        held.update(next_try_at=timezone.now())
        for pk in held.values_list("pk", flat=True):
            enqueue_on_commit("access_requests.tasks.send_mail", pk)


def send_mail_now(*, mail_id: int) -> bool:
    """Sends one waiting mail; the row lock keeps two workers from sending it twice. False if not sent."""
    with transaction.atomic():
        mail = (
            OutgoingMail.objects.select_for_update(no_key=True, skip_locked=True)
            .filter(pk=mail_id, state=MailState.WAITING, next_try_at__lte=timezone.now())
            .first()
        )
        if mail is None:
            return False
        mail.attempts += 1
        try:
            EmailMessage(mail.subject, mail.text, settings.DEFAULT_FROM_EMAIL, [mail.to]).send()
        except Exception as error:  # whatever the mail server does, the mail must stay
            _postpone(mail, error)
        else:
            mail.state, mail.sent_at, mail.last_error = MailState.SENT, timezone.now(), ""
        mail.save(update_fields=["attempts", "state", "sent_at", "next_try_at", "last_error"])
    return mail.state == MailState.SENT


def _postpone(mail: OutgoingMail, error: Exception) -> None:
    log.warning("Mail %s was not sent (attempt %s): %s", mail.pk, mail.attempts, error)
    mail.last_error = f"{type(error).__name__}: {error}"[:1000]
    mail.next_try_at = timezone.now() + min(FIRST_PAUSE * 2 ** min(mail.attempts - 1, 20), LONGEST_PAUSE)
    if mail.attempts >= MAX_ATTEMPTS:
        mail.state = MailState.FAILED


def send_due() -> int:
    """Sends everything that is due, oldest first; how many went out."""
    due = OutgoingMail.objects.filter(state=MailState.WAITING, next_try_at__lte=timezone.now()).order_by("pk")
    return sum(send_mail_now(mail_id=pk) for pk in due.values_list("pk", flat=True)[:200])


def try_again(*, mail: OutgoingMail) -> None:
    """Gives a mail that was given up its attempts back and wakes a worker; any other is left alone."""
    with transaction.atomic():
        given_up = OutgoingMail.objects.filter(pk=mail.pk, state=MailState.FAILED)
        if not given_up.update(state=MailState.WAITING, attempts=0, next_try_at=timezone.now()):
            raise Conflict(f"Mail {mail.pk} was not given up, so there is nothing to try again.")
        enqueue_on_commit("access_requests.tasks.send_mail", mail.pk)
