"""Where a grant becomes a delivery."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from access_requests.signals import access_granted, access_recorded
from model_ops.services.recoveries.deliver import expect_delivery, note_delivery


@receiver(access_recorded)
def on_access_recorded(sender: Any, grant_id: int, **kwargs: Any) -> None:
    """Sent in the grant's transaction, so that the grant and what it waits for are written together or not at all."""
    note_delivery(grant_id=grant_id)


@receiver(access_granted)
def on_access_granted(sender: Any, grant_id: int, **kwargs: Any) -> None:
    """Sent after the decision is committed; a message that is lost is made good by beat."""
    expect_delivery(grant_id=grant_id)
