"""The first account of a portal, created through a link that only the person who started it can see."""

from __future__ import annotations

import hashlib
import secrets

from allauth.account.models import EmailAddress
from django.db import transaction
from django.utils.translation import gettext as _

from access_requests.errors import Conflict
from access_requests.services.event_log.append import append_event
from portal.accounts.addresses import page_address
from portal.accounts.models import OwnerLink, User


def owner_link() -> str | None:
    """Return a new link to create the owner, or None once there is a superuser.

    A new link replaces the previous one.
    """
    if User.objects.filter(is_superuser=True).exists():
        return None
    token = secrets.token_urlsafe(24)
    OwnerLink.objects.update_or_create(pk=OwnerLink.ONLY, defaults={"digest": _token_digest(token)})
    return page_address("owner", token)


def link_opens(token: str) -> bool:
    """Return whether this link can still be used. Opening it does not use it up."""
    return (
        OwnerLink.objects.filter(digest=_token_digest(token)).exists()
        and not User.objects.filter(is_superuser=True).exists()
    )


@transaction.atomic
def create_owner(
    *, token: str, email: str, username: str, password: str, first_name: str = "", last_name: str = ""
) -> User:
    """Use the link up and create the superuser, whose address counts as confirmed.

    Raises Conflict if the link was used or replaced: of two people with one link, the row lock lets only one
    through.
    """
    link = OwnerLink.objects.select_for_update(no_key=True).filter(digest=_token_digest(token)).first()
    if link is None or User.objects.filter(is_superuser=True).exists():
        raise Conflict(
            _("This link was already used or replaced: sign in, or restart the portal for a new link.")
        )
    link.delete()
    user = User.objects.create_superuser(
        email, username, password, first_name=first_name, last_name=last_name
    )
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    append_event(kind="account.owner_made", actor=user)
    return user


def _token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
