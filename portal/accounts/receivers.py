"""Receivers of allauth's signals."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.account.signals import authentication_step_completed, email_changed, password_reset
from django.dispatch import receiver
from django.http import HttpRequest

from portal.accounts.forms import client_address
from portal.accounts.models import User
from portal.accounts.recent import remember_where, renew_session
from portal.accounts.security import record_email_change


@receiver(password_reset, dispatch_uid="confirm-address-after-reset")
def confirm_address_after_reset(*, user: User, **_: Any) -> None:
    """Confirm the account's only address: setting a password through an emailed link proves access to the mailbox."""
    rows = list(EmailAddress.objects.filter(user=user))
    if len(rows) == 1 and not rows[0].verified and rows[0].email == user.email:
        rows[0].set_verified()


@receiver(email_changed, dispatch_uid="record-email-change")
def record_change(
    *,
    request: HttpRequest,
    user: User,
    from_email_address: EmailAddress | None,
    to_email_address: EmailAddress,
    **_: Any,
) -> None:
    """Record the change, queue its emails, and keep this session.

    Adding an account's first address is not a change.
    """
    if from_email_address is None or from_email_address.email == to_email_address.email:
        return
    record_email_change(
        user=user,
        old=from_email_address.email,
        new=to_email_address.email,
        address=client_address(),
    )
    if request.user == user:
        renew_session(request, user)


@receiver(authentication_step_completed, dispatch_uid="remember-where-signed-in")
def remember_network(*, request: HttpRequest, **_: Any) -> None:
    """Note the network of a recent sign-in, which counts only for requests from there."""
    remember_where(request)
