"""Manage signed-in machines: short-lived access tokens, and refresh tokens that work once.

Signing out ends all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.enums import DeviceState, TokenKind, TokenOrigin
from access_requests.errors import Invalid, NotAllowed
from access_requests.models import AccessToken, DeviceCode, Machine, RefreshToken
from access_requests.services import tokens
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.oauth.errors import OAuthError

if TYPE_CHECKING:
    from portal.accounts.models import User

TOKEN_DAYS = 30  # the client refreshes when less than a day is left
UNUSED_DAYS = 90  # a machine that does not refresh for this long is signed out
OVERLAP = timedelta(days=1)  # for this long, a running process can keep using the token it started with
GRACE = timedelta(minutes=1)  # in which a refresh token may be sent again, because its answer was lost
MOST_SIBLINGS = 3
MOST_MACHINES = 50


@dataclass(frozen=True)
class Pair:
    """An access token and a refresh token. Both secrets are known only now."""

    machine: Machine
    access: tokens.Issued
    refresh_secret: str

    @property
    def expires_in(self) -> int:
        """Return the lifetime in seconds, as reported to the client."""
        return TOKEN_DAYS * 24 * 3600


def digest(secret: str) -> str:
    """Return SHA-256 (hex) of a device code or a refresh token, or of anything sent as one."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def clean_machine_name(name: str) -> str:
    """Return the name: 1 to 100 visible characters that can be a section name in the client's token file."""
    name = " ".join(name.split())
    if (
        not name
        or len(name) > 100
        or not name.isprintable()
        or name.upper() == "DEFAULT"
        or set(name) & set("[]")
    ):
        raise Invalid(
            _(
                "Give the machine a name of 1 to 100 visible characters without square brackets, "
                "so that you can recognise it."
            ),
            field="name",
        )
    return name


def live_machines(user: User) -> QuerySet[Machine]:
    """Return the person's signed-in machines, newest first."""
    return Machine.objects.filter(user=user, signed_out_at=None, ends_at__gt=timezone.now())


def lock_machine(pk: int) -> Machine:
    """Lock a machine's row (before its device code and tokens) and return it as it is now, with its person."""
    return Machine.objects.select_for_update(no_key=True, of=("self",)).select_related("user").get(pk=pk)


def first_pair(machine: Machine) -> Pair:
    """Make the first tokens of an approved machine, inside the caller's `recorded()`."""
    return _make_pair(machine, follows=None)


def _make_pair(machine: Machine, *, follows: RefreshToken | None) -> Pair:
    access = tokens.issue_person_token(
        user=machine.user,
        kind=TokenKind.USER,
        name=machine.name,
        origin=TokenOrigin.DEVICE,
        expires_at=timezone.now() + timedelta(days=TOKEN_DAYS),
    )
    secret = tokens.make_secret(tokens.REFRESH_PREFIX)
    RefreshToken.objects.create(machine=machine, token=access.token, follows=follows, digest=digest(secret))
    return Pair(machine, access, secret)


def refresh(*, secret: str) -> Pair:
    """Return the next pair for a refresh token; if an old token is used again, its machine is signed out.

    Within a minute it may be sent again if its new tokens were not used, in case the answer was lost.
    """
    with recorded():
        known = RefreshToken.objects.filter(digest=digest(secret)).only("machine").first()
        if known is None:
            raise _invalid_grant("This refresh token is not known.")
        machine = lock_machine(known.machine_id)
        old = RefreshToken.objects.select_for_update(no_key=True).get(pk=known.pk)
        old.machine = machine
        why = _why_ended(old)
        if not why:
            now = timezone.now()
            RefreshToken.objects.filter(pk=old.pk, used_at=None).update(used_at=now)
            access = AccessToken.objects.filter(pk=old.token_id, expires_at__gt=now + OVERLAP)
            access.update(expires_at=now + OVERLAP)
            machine.refreshed_at, machine.ends_at = now, now + timedelta(days=UNUSED_DAYS)
            machine.save(update_fields=["refreshed_at", "ends_at"])
            return _make_pair(machine, follows=old)
        if machine.is_live():
            sign_out(machine=machine, why=why)
    raise _invalid_grant(f"This machine is signed out: {machine.signed_out_why or why}.")


def _invalid_grant(sentence: str) -> OAuthError:
    return OAuthError("invalid_grant", f"{sentence} Run 'hf auth login' again.")


def _why_ended(old: RefreshToken) -> str:
    """Return why this token no longer works; "" if it does."""
    machine, now = old.machine, timezone.now()
    if machine.signed_out_at is not None:
        return machine.signed_out_why
    if machine.ends_at <= now:
        return f"it was not used for {UNUSED_DAYS} days"
    if not machine.user.is_active:
        return "its account is disabled"
    if AccessToken.objects.filter(refresh__machine=machine, revoked_at__isnull=False).exists():
        return "one of its tokens was revoked"
    if old.used_at is None:
        return ""
    followers = list(old.followers.all())
    lost = now - old.used_at <= GRACE and not any(follower.used_at for follower in followers)
    return "" if lost and len(followers) < MOST_SIBLINGS else "an old refresh token was used again"


def sign_out(*, machine: Machine, why: str, actor: User | None = None, place: str = "") -> bool:
    """End the machine, all its tokens, and a sign-in whose tokens it has not fetched yet.

    Idempotent; returns False if it was already signed out. `place` is where one of its secrets was leaked.
    """
    if actor is not None and actor.pk != machine.user_id and not actor.is_superuser:
        raise NotAllowed(_("This machine belongs to someone else."))
    with recorded():
        now = timezone.now()
        mine = Machine.objects.filter(pk=machine.pk, signed_out_at=None).update(
            signed_out_at=now, signed_out_why=why
        )
        if not mine:
            return False
        DeviceCode.objects.filter(machine=machine, state=DeviceState.APPROVED).update(state=DeviceState.ENDED)
        ended = AccessToken.objects.filter(refresh__machine=machine, revoked_at=None).update(
            revoked_at=now, revoke_reason=f"its machine was signed out: {why}"[:200]
        )
        append_event(
            kind="machine.signed_out",
            actor=actor,
            data={"machine": machine.pk, "name": machine.name, "why": why, "tokens": ended}
            | ({"place": place} if place else {}),
        )
    return True


def revoke_secret(*, secret: str) -> None:
    """Revoke a secret (RFC 7009).

    A machine's secret signs the machine out; an unknown secret is not an error.
    """
    found = RefreshToken.objects.select_related("machine").filter(digest=digest(secret)).first()
    token = AccessToken.objects.select_related("user").filter(digest=digest(secret)).first()
    found = found or RefreshToken.objects.select_related("machine").filter(token=token).first()
    if found is not None:
        sign_out(machine=found.machine, why="the client signed out")
    elif token is not None:
        tokens.revoke_token(token=token, user=token.user)
