"""Lease rows to workers: claimed by compare-and-swap, renewed, or lost to the next worker."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, TypeVar

from django.db.models import DateTimeField, ExpressionWrapper, Model, Q, QuerySet
from django.db.models.functions import Now

Row = TypeVar("Row", bound=Model)
LEASE = timedelta(seconds=90)  # longer than one call may take (wire.LONGEST_CALL); each call renews it
FREE: dict[str, Any] = {"lease_owner": "", "lease_until": None}  # the fields of a row that no worker has


class Lost(Exception):
    """Another worker has the row, so this one must not write any more."""


def from_now(length: timedelta) -> ExpressionWrapper[Any]:
    """Return the time after this interval, by the database's clock."""
    return ExpressionWrapper(Now() + length, output_field=DateTimeField())


def is_free() -> Q:
    """Return the condition for rows that no worker has, or whose worker did not renew its lease."""
    return Q(lease_until=None) | Q(lease_until__lt=Now())


def claim(rows: QuerySet[Row], *, length: timedelta = LEASE, **fields: Any) -> str:
    """Claim a row; return the lease's random name, or "" if another worker has the row or nothing is due.

    The conditions are part of the UPDATE, so that only one of two simultaneous claims succeeds.
    """
    owner = secrets.token_hex(16)
    return owner if rows.update(lease_owner=owner, lease_until=from_now(length), **fields) else ""


def renew(held: QuerySet[Row], *, length: timedelta = LEASE, **fields: Any) -> None:
    """Renew the lease; raises `Lost` if another worker has the row."""
    if not held.update(lease_until=from_now(length), **fields):
        raise Lost
