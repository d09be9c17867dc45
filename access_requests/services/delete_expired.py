"""Delete rows that are kept only for a limited time: sent emails, and the remains of sign-ins from clients.

Each call deletes one batch in a short transaction and returns the number of rows; fewer than `BATCH` means
that the remaining rows are still needed. The event log and the download log are never deleted.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from access_requests.enums import DeviceState, MailState
from access_requests.models import DeviceCode, Machine, OutgoingMail, TokenExchange
from access_requests.services.oauth.codes import NEVER_FETCHED
from access_requests.services.oauth.machines import sign_out

BATCH = 1000
CLEARING_LOCK = 0x636C656172  # "clear"
SIGNED_OUT_AT_ONCE = 100  # each with its own event


def delete_batch(ended: QuerySet[Any], *, order: str) -> int:
    """Delete the first rows of `ended` by an indexed column; return 0 if another process is deleting."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [CLEARING_LOCK])
            if cursor.fetchone() != (True,):
                return 0
        keys = list(ended.order_by(order).values_list("pk", flat=True)[:BATCH])
        return ended.model._base_manager.filter(pk__in=keys).delete()[0] if keys else 0


def kept_since(days: int) -> datetime:
    """Return the cutoff time: anything older is deleted."""
    return timezone.now() - timedelta(days=days)


def clear_emails() -> int:
    """Delete emails sent, or whose code expired, GATEHOUSE_KEEP_MAIL_DAYS ago; keep waiting and given-up ones.

    The row's key, which prevents the same email from being sent twice, is deleted with it. Every key names an
    event, a decision or a row that people are informed of within minutes, so nothing uses it again after a
    week.
    """
    done = OutgoingMail.objects.filter(
        state__in=[MailState.SENT, MailState.EXPIRED],
        created_at__lt=kept_since(settings.GATEHOUSE_KEEP_MAIL_DAYS),
    )
    return delete_batch(done, order="created_at")


def end_unfetched_sign_ins() -> int:
    """Sign out machines whose client never fetched its tokens, so that they do not stay in the person's list."""
    codes = DeviceCode.objects.filter(state=DeviceState.APPROVED, expires_at__lt=timezone.now())
    keys = list(codes.order_by("expires_at").values_list("machine_id", flat=True)[:SIGNED_OUT_AT_ONCE])
    return sum(
        sign_out(machine=machine, why=NEVER_FETCHED) for machine in Machine.objects.filter(pk__in=keys)
    )


def clear_device_codes() -> int:
    """Delete codes that expired GATEHOUSE_KEEP_SIGN_INS_DAYS ago; the event log keeps their outcome."""
    ended = DeviceCode.objects.filter(expires_at__lt=kept_since(settings.GATEHOUSE_KEEP_SIGN_INS_DAYS))
    return delete_batch(ended.exclude(state=DeviceState.APPROVED), order="expires_at")


def clear_exchanges() -> int:
    """Delete records of exchanged CI identities that have expired (`LONGEST_LIFE` is a day)."""
    past = TokenExchange.objects.filter(at__lt=kept_since(settings.GATEHOUSE_KEEP_SIGN_INS_DAYS))
    return delete_batch(past, order="at")
