"""What we do when allauth says that something happened."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.account.signals import password_reset
from django.dispatch import receiver

from portal.accounts.models import User


@receiver(password_reset, dispatch_uid="confirm-address-after-reset")
def confirm_address_after_reset(*, user: User, **_: Any) -> None:
    """Who set a password through a mailed link has the mailbox: the account's only address needs no code."""
    rows = list(EmailAddress.objects.filter(user=user))
    if len(rows) == 1 and not rows[0].verified and rows[0].email == user.email:
        rows[0].set_verified()
