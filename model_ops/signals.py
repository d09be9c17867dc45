"""Where a grant becomes a delivery."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from access_requests.signals import access_granted
from model_ops.services.delivering import expect_delivery


@receiver(access_granted)
def on_access_granted(sender: Any, grant_id: int, **kwargs: Any) -> None:
    """Sent after the decision is committed; what goes wrong here is made good by beat."""
    expect_delivery(grant_id=grant_id)
