"""Create a delivery for each grant."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from access_requests.signals import access_granted, access_recorded
from model_ops.services.recoveries.deliver import expect_delivery, note_delivery


@receiver(access_recorded)
def on_access_recorded(sender: Any, grant_id: int, **kwargs: Any) -> None:
    """Record the delivery in the grant's transaction, so that both are written together or not at all."""
    note_delivery(grant_id=grant_id)


@receiver(access_granted)
def on_access_granted(sender: Any, grant_id: int, **kwargs: Any) -> None:
    """Wake a worker after the decision is committed; beat replaces a lost message."""
    expect_delivery(grant_id=grant_id)
