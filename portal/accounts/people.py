"""People whom an operator names by email address before they have ever signed in."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from access_requests.errors import Invalid
from access_requests.services.event_log.append import append_event, recorded
from portal.accounts.adapter import reset_address
from portal.accounts.addresses import page_address
from portal.accounts.models import USERNAME_PATTERN, User
from portal.accounts.names import anonymous_username, clean_name
from portal.accounts.security import reset_tokens


@dataclass(frozen=True)
class Invited:
    """An account and its first address.

    `url` is where the person sets a password, or signs in if they have one.
    """

    user: User
    created: bool
    url: str


def find_or_invite(email: str) -> Invited:
    """Return the account of this address.

    For an unknown address, create one without password, under an anonymous name. An account that nobody has confirmed or
    signed in to loses its password. Only the account's own
    address and its confirmed further ones count: an address that someone merely typed into their account does
    not prove that it is theirs.
    """
    address = email.strip().lower()
    try:
        validate_email(address)
    except ValidationError as error:
        sentence = _("“%(email)s” is not an email address: write one such as ada@example.org.")
        raise Invalid(sentence % {"email": email}, field="email") from error
    user = _find_holder(address)
    created = user is None
    if user is None:
        try:
            with transaction.atomic():
                user = User.objects.create_user(address, anonymous_username())
                EmailAddress.objects.create(user=user, email=address, primary=True, verified=False)
        except IntegrityError:  # someone else invited the same address at the same moment
            user, created = _find_holder(address), False
            if user is None:
                raise
    elif user.last_login is None and user.has_usable_password() and not _is_confirmed(user):
        # Someone typed this address when they signed up, and has not proved that it is theirs: their password must not open
        # what the person is given now. The invitation sets another one.
        user.set_unusable_password()
        user.save(update_fields=["password"])
        append_event(kind="account.password_dropped", data={"person": user.username})
    url = page_address("account_login") if user.has_usable_password() else invitation_url(user)
    return Invited(user=user, created=created, url=url)


def _is_confirmed(user: User) -> bool:
    return bool(EmailAddress.objects.filter(user=user, email__iexact=user.email, verified=True).exists())


def find_person(email: str) -> User | None:
    """Return the account of this address, or of a confirmed further one. Invites nobody."""
    return _find_holder(email.strip().lower())


def import_person(*, name: str, full_name: str, host: str) -> User:
    """Return an account for someone who asked at `host`.

    It has no address or password, so nobody can sign in. The user name is the one they have there, followed
    by the host: it is merged with no account here, and nobody here is mistaken for them.
    """
    full_name = clean_name(full_name)[:200]
    place = re.sub(r"[^a-z0-9]+", ".", host.lower()).strip(".")[:40].strip(".")
    for extra in ("", *(f".{n}" for n in range(2, 100)), f".{secrets.token_hex(6)}"):
        username = f"{name or 'applicant'}.{place}{extra}"
        if not re.match(USERNAME_PATTERN, username):
            username = f"applicant-{secrets.token_hex(4)}.{place}"
        try:
            with transaction.atomic():
                return User.objects.create_imported(username, first_name=full_name)
        except IntegrityError:
            continue  # someone else has that name
    raise RuntimeError("no free user name among 10^14: the random source is broken")


RIGHTS = ("is_active", "is_superuser")


def save_account(*, user: User, actor: User) -> list[str]:
    """Save an account that an administrator changed; record and return the changed rights."""
    with recorded():
        before = User.objects.select_for_update(no_key=True).values(*RIGHTS).get(pk=user.pk)
        changed = [right for right in RIGHTS if before[right] != getattr(user, right)]
        user.save()
        if changed:
            now = {right: getattr(user, right) for right in changed}
            append_event(kind="account.rights_changed", actor=actor, data={"person": user.username, **now})
    return changed


def invitation_url(user: User) -> str:
    """Return a link for setting this person's first password; it works once, for PASSWORD_RESET_TIMEOUT."""
    return reset_address(f"{user_pk_to_url_str(user)}-{reset_tokens().make_token(user)}")


def _find_holder(address: str) -> User | None:
    if not address:
        return None  # imported people have none, and are never meant
    user = User.objects.filter(email__iexact=address).first()
    if user is None:
        row = EmailAddress.objects.filter(email__iexact=address, verified=True).select_related("user").first()
        user = row.user if row else None
    return user
