"""Who works on a row: claimed by compare-and-swap, kept by renewing, lost to the next worker that claims it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, TypeVar

from django.db.models import DateTimeField, ExpressionWrapper, Model, QuerySet
from django.db.models.functions import Now

Row = TypeVar("Row", bound=Model)
LEASE = timedelta(seconds=90)  # longer than one call may take (wire.LONGEST_CALL), which renews it


class Lost(Exception):
    """Another worker has the row: nothing more may be written."""


def lease_end() -> ExpressionWrapper[Any]:
    """By the database's clock, which all workers share."""
    return ExpressionWrapper(Now() + LEASE, output_field=DateTimeField())


def claim(rows: QuerySet[Row], **fields: Any) -> str:
    """Makes the row ours and returns the lease's random name; "" when another worker has it or nothing is due.

    The conditions stand in the UPDATE itself, so that of two claims at once one finds the row changed.
    """
    owner = secrets.token_hex(16)
    return owner if rows.update(lease_owner=owner, lease_until=lease_end(), **fields) else ""


def renew(held: QuerySet[Row], **fields: Any) -> None:
    """Keeps the row for another while, or raises `Lost`."""
    if not held.update(lease_until=lease_end(), **fields):
        raise Lost
