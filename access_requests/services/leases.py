"""Lease rows to workers: claim by compare-and-swap, keep by renewing, lose to the next worker that claims it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, TypeVar

from django.db.models import DateTimeField, ExpressionWrapper, Model, QuerySet
from django.db.models.functions import Now

Row = TypeVar("Row", bound=Model)
LEASE = timedelta(seconds=90)  # longer than one call can take (wire.LONGEST_CALL); each call renews it


class Lost(Exception):
    """Another worker has the row, so nothing more may be written."""


def lease_end() -> ExpressionWrapper[Any]:
    """Return the end of a new lease, by the database's clock, which all workers share."""
    return ExpressionWrapper(Now() + LEASE, output_field=DateTimeField())


def claim(rows: QuerySet[Row], **fields: Any) -> str:
    """Claim the row and return the lease's random name; "" if another worker has it or nothing is due.

    The conditions are part of the UPDATE, so that of two claims at the same time one finds the row changed.
    """
    owner = secrets.token_hex(16)
    return owner if rows.update(lease_owner=owner, lease_until=lease_end(), **fields) else ""


def renew(held: QuerySet[Row], **fields: Any) -> None:
    """Extend the lease. Raises `Lost`."""
    if not held.update(lease_until=lease_end(), **fields):
        raise Lost
