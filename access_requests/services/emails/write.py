"""Queue emails as rows, written with the decision; another process (`emails.send`) sends them."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.enums import MailState
from access_requests.errors import Conflict
from access_requests.models import OutgoingMail
from access_requests.services.queue import enqueue_on_commit

WAKE = "access_requests.tasks.send_mail"
WAKES_FOR = 60  # seconds: after that, beat has already woken a worker


def wake(mail_id: int = 0) -> None:
    """Wake a process to send what is due, after the transaction commits."""
    enqueue_on_commit(WAKE, mail_id, expires=WAKES_FOR)


def queue_mail(
    *, key: str, to: str, template: str, context: dict[str, Any], hold: timedelta | None = None
) -> OutgoingMail | None:
    """Store the email in the caller's transaction and wake a worker; the same key is sent only once.

    People without an address, imported from elsewhere, get no email. `template` is a text file whose first
    line is `Subject: ...`. A key prevents a second email as long as its row is kept, at least a week
    (`GATEHOUSE_KEEP_MAIL_DAYS`). With `hold` it is sent after that time: until then `revise_mail` can rewrite
    it, and `release_mail` releases it.
    """
    if not to:
        return None
    mail, created = OutgoingMail.objects.get_or_create(
        key=key, defaults={"to": to, **_render_email(template, context, hold)}
    )
    if created and not hold:
        wake(mail.pk)
    return mail


def queue_pressing(
    *, to: str, subject: str, text: str, useful_for: timedelta, instead_of: int | None = None
) -> OutgoingMail:
    """Store an email with a code or link that someone waits for: it is sent before the others, or not at all.

    It is not sent after `useful_for`. Its text is kept only until it is sent, since it opens an account.
    `instead_of` is the key of an email whose code no longer works: if that one is still waiting, it is not
    sent.
    """
    now = timezone.now()
    if instead_of is not None:
        unsent = OutgoingMail.objects.filter(
            pk=instead_of, state__in=[MailState.WAITING, MailState.FAILED], pressing=True, to=to
        )
        unsent.update(useless_after=now)
    mail = OutgoingMail.objects.create(
        key=f"pressing:{secrets.token_hex(16)}",
        to=to,
        subject=subject[:300],
        text=text,
        pressing=True,
        next_try_at=now,
        useless_after=now + useful_for,
    )
    wake(mail.pk)
    return mail


def _render_email(template: str, context: dict[str, Any], hold: timedelta | None) -> dict[str, Any]:
    text = render_to_string(template, {"portal": settings.GATEHOUSE_URL, **context})
    first, _newline, body = text.lstrip().partition("\n")
    return {
        "subject": " ".join(first.removeprefix("Subject:").split())[:300],
        "text": body.strip() + "\n",
        "next_try_at": timezone.now() + (hold or timedelta(0)),
    }


def revise_mail(*, key: str, template: str, context: dict[str, Any], hold: timedelta) -> bool:
    """Rewrite an email that no process has started to send, and hold it again; return False if there is none."""
    unsent = _unsent_emails().filter(key=key)
    return bool(unsent.update(**_render_email(template, context, hold)))


def release_mail(*, keys: Collection[str]) -> None:
    """Release held emails and wake a worker."""
    with transaction.atomic():
        if _unsent_emails().filter(key__in=keys).update(next_try_at=timezone.now()):
            wake()


def _unsent_emails() -> QuerySet[OutgoingMail]:
    """Return the emails that were never claimed, so that no server can have seen them."""
    return OutgoingMail.objects.filter(state=MailState.WAITING, attempts=0, lease_until=None)


def try_again(*, mail: OutgoingMail) -> None:
    """Reset the attempts of an email that was given up, and wake a worker. Raises `Conflict` for any other email."""
    with transaction.atomic():
        given_up = OutgoingMail.objects.filter(pk=mail.pk, state=MailState.FAILED)
        if not given_up.update(state=MailState.WAITING, attempts=0, next_try_at=timezone.now()):
            raise Conflict(
                _("Email %(id)s was not given up, so there is nothing to try again.") % {"id": mail.pk}
            )
        wake(mail.pk)
