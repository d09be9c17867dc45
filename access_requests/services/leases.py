"""Lease rows to workers: claim by compare-and-swap, keep by renewing, lose to the next worker that claims it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, TypeVar

from django.db.models import DateTimeField, ExpressionWrapper, Model, Q, QuerySet
from django.db.models.functions import Now

Row = TypeVar("Row", bound=Model)
LEASE = timedelta(seconds=90)  # longer than one call may take (wire.LONGEST_CALL), which renews it
FREE: dict[str, Any] = {"lease_owner": "", "lease_until": None}  # the fields of a row that nobody works on


class Lost(Exception):
    """Another worker has the row, so nothing more may be written."""


def from_now(length: timedelta) -> ExpressionWrapper[Any]:
    """Return the time that is so far away by the database's clock."""
    return ExpressionWrapper(Now() + length, output_field=DateTimeField())


def is_free() -> Q:
    """Return the condition of rows that nobody works on, or whose worker did not renew its lease."""
    return Q(lease_until=None) | Q(lease_until__lt=Now())


def claim(rows: QuerySet[Row], *, length: timedelta = LEASE, **fields: Any) -> str:
    """Makes the row ours and returns the lease's random name; "" when another worker has it or nothing is due.

    The conditions are part of the UPDATE, so that of two claims at the same time one finds the row changed.
    """
    owner = secrets.token_hex(16)
    return owner if rows.update(lease_owner=owner, lease_until=from_now(length), **fields) else ""


def renew(held: QuerySet[Row], *, length: timedelta = LEASE, **fields: Any) -> None:
    """Keeps the row for another while, or raises `Lost`."""
    if not held.update(lease_until=from_now(length), **fields):
        raise Lost
