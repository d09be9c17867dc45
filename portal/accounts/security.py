"""Changes of passwords, addresses and second factors, each with its event and email in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.hashers import make_password
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import Event
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_person
from portal.accounts.models import User

FACTORS = {
    Authenticator.Type.TOTP: gettext_lazy("authenticator app"),
    Authenticator.Type.WEBAUTHN: gettext_lazy("passkey or security key"),
    Authenticator.Type.RECOVERY_CODES: gettext_lazy("recovery codes"),
}
TAKEN = gettext_lazy("Another account has this email address.")


def reset_tokens() -> PasswordResetTokenGenerator:
    """Return the generator that makes and checks the keys of reset and invitation links."""
    generator: type[PasswordResetTokenGenerator] = import_string(
        "allauth.account.forms.EmailAwarePasswordResetTokenGenerator"
    )
    return generator()


def change_password(*, user: User, password: str, address: str) -> None:
    """Set a new password, or the first one, for a person who has confirmed that it is them.

    All sessions end except the one that the view renews. `address` is where the change came from. Raises
    `Conflict` if the password was changed since the person's session was read.
    """
    hashed = make_password(password)  # slow on purpose, so before the lock
    with recorded():
        held = lock_person(user.pk)
        if held.password != user.password:
            raise Conflict(_("The password was changed a moment ago: sign in again."))
        _write_password(held, user, hashed)
        event = append_event(kind="account.password_changed", actor=user, data={"person": user.username})
        _email_person(event, user, "mails/password_changed.txt", address=address)


def reset_password(*, user: User, key: str, password: str, address: str) -> None:
    """Set the password through an emailed link.

    A link works once: of several simultaneous uses, one gets through. `key` is the link's key, checked again
    while the person's row is locked. `address` is where the link was used. A change of email address that
    still waits for its code is dropped. Raises `Conflict` if the link was used or replaced.
    """
    hashed = make_password(password)
    with recorded():
        held = lock_person(user.pk)
        if not held.is_active or not reset_tokens().check_token(held, key):
            raise Conflict(
                _("This link has already been used, has been replaced by a newer one, or has expired.")
            )
        _write_password(held, user, hashed)
        EmailAddress.objects.filter(user=user, verified=False).exclude(email=user.email).delete()
        event = append_event(kind="account.password_reset", actor=user, data={"person": user.username})
        _email_person(event, user, "mails/password_changed.txt", address=address, by_link=True)


def _write_password(held: User, user: User, hashed: str) -> None:
    held.password = user.password = hashed
    held.save(update_fields=["password"])


@contextmanager
def factors_recorded(*, user: User, address: str, actor: User | None = None) -> Iterator[None]:
    """Run a change of a person's second factors in one transaction, then record what was added and removed.

    `actor` is the person who changed them, if someone else did.
    """
    with recorded():
        lock_person(user.pk)
        before = _factor_types(user)
        yield
        after = _factor_types(user)
        added = [type_ for pk, type_ in after.items() if pk not in before]
        removed = [type_ for pk, type_ in before.items() if pk not in after]
        codes = Authenticator.Type.RECOVERY_CODES
        kinds = [("account.recovery_codes_made", codes)] if codes in added else []
        kinds += [("account.factor_added", type_) for type_ in added if type_ != codes]
        kinds += [("account.factor_removed", type_) for type_ in removed if type_ != codes]
        for kind, type_ in kinds:
            data = {"person": user.username, "factor": type_}
            event = append_event(kind=kind, actor=actor or user, data=data)
            _email_person(
                event,
                user,
                "mails/factor_changed.txt",
                address=address,
                change=kind.rpartition("_")[2],
                factor=FACTORS[Authenticator.Type(type_)],
                by_staff=actor is not None,
            )


def _factor_types(user: User) -> dict[int, str]:
    return dict(Authenticator.objects.filter(user=user).order_by("pk").values_list("pk", "type"))


def announce_email_change(*, user: User, new: str, address: str) -> None:
    """Record the request for a new email address, and warn the present one while nothing has changed yet."""
    with recorded():
        data = {"person": user.username, "new": masked(new)}
        event = append_event(kind="account.email_change_asked", actor=user, data=data)
        _email_person(event, user, "mails/email_change_asked.txt", address=address, new=masked(new))


def record_email_change(*, user: User, old: str, new: str, address: str, actor: User | None = None) -> None:
    """Record that the email address was changed, and inform both addresses.

    Called inside the transaction of the change. All sessions end, except one that the view renews. `actor` is
    the person who changed the address, if someone else did.
    """
    with recorded():
        data = {"person": user.username, "old": masked(old), "new": masked(new)}
        event = append_event(kind="account.email_changed", actor=actor or user, data=data)
        facts = {"old": masked(old), "new": masked(new), "by_staff": actor is not None}
        _email_person(event, user, "mails/email_changed.txt", to=old, address=address, at_old=True, **facts)
        _email_person(event, user, "mails/email_changed.txt", to=new, address=address, at_old=False, **facts)


def change_email_by_staff(
    *, row: EmailAddress, email: str, verified: bool, actor: User, address: str
) -> None:
    """Set a person's email address in the admin, or whether it counts as confirmed.

    This is for people who lost their mailbox. `row` is the stored address. Raises `NotAllowed` if it belongs
    to someone who may enter the admin and the actor is not a superuser, since the address is the key to the account, and `Invalid` if
    another account has the new one.
    """
    email = email.strip().lower()
    with recorded():
        user = lock_person(row.user_id)
        if not may_change_email_of(user, actor=actor):
            raise NotAllowed(
                _("Only a superuser may change the email address of someone who may enter the admin.")
            )
        held = EmailAddress.objects.select_for_update(no_key=True).get(pk=row.pk)
        if email_is_taken(email, holder=user):
            raise Invalid(str(TAKEN), field="email")
        old, was_verified = held.email, held.verified
        held.email, held.verified = email, verified
        held.save(update_fields=["email", "verified"])
        if verified != was_verified:
            data = {"person": user.username, "email": masked(email), "confirmed": verified}
            append_event(kind="account.email_marked", actor=actor, data=data)
        if user.email == old and email != old:
            user.email = email
            user.save(update_fields=["email"])
            record_email_change(user=user, old=old, new=email, address=address, actor=actor)


def may_change_email_of(user: User, *, actor: User) -> bool:
    """Return whether the actor may change this person's email address in the admin."""
    return actor.is_superuser or not user.is_staff


def email_is_taken(email: str, *, holder: User) -> bool:
    """Return whether an account other than the holder's has this address."""
    return (
        User.objects.exclude(pk=holder.pk).filter(email__iexact=email).exists()
        or EmailAddress.objects.exclude(user=holder).filter(email__iexact=email, verified=True).exists()
    )


def _email_person(
    event: Event, user: User, template: str, *, address: str, to: str = "", **context: Any
) -> None:
    to = to or user.email
    queue_mail(
        key=f"account:{event.pk}:{to}",
        to=to,
        template=template,
        context={"person": user, "at": event.at, "address": address, **context},
    )


def masked(email: str) -> str:
    """Return an email address with all but its first letter and its host masked."""
    name, _at, host = email.rpartition("@")
    return f"{name[:1]}***@{host}"
