"""Rotate tokens: make a successor at once, and keep the old token for a chosen overlap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import AccessToken
from access_requests.services.event_log.append import recorded
from access_requests.services.locks import lock_grant, lock_person
from access_requests.services.tokens.issuing import (
    BY_HAND,
    LONGEST_LIFE,
    MOST_TOKENS,
    Issued,
    announce_token,
    check_person,
    live_tokens,
    own_tokens,
    say_of_token,
    usable_grant,
    write_token,
)

if TYPE_CHECKING:
    from portal.accounts.models import User

REPLACED = "replaced by its successor"


@dataclass(frozen=True)
class Overlap:
    """How long the old token works in addition to the new one."""

    words: str
    length: timedelta


OVERLAPS = {
    "now": Overlap(gettext_noop("None: the old one ends now"), timedelta()),
    "1h": Overlap(gettext_noop("One hour"), timedelta(hours=1)),
    "1d": Overlap(gettext_noop("One day"), timedelta(days=1)),
    "7d": Overlap(gettext_noop("Seven days"), timedelta(days=7)),
}


def rotate_token(*, token: AccessToken, user: User, overlap: str) -> Issued:
    """Make a successor with the same name, networks and lifetime; the old one ends after `overlap` or at its own end.

    Each token has only one successor: of two simultaneous rotations, one wins.
    """
    if overlap not in OVERLAPS:
        raise Invalid(
            _("There is no overlap %(overlap)r: choose one of %(overlaps)s.")
            % {"overlap": overlap[:20], "overlaps": ", ".join(OVERLAPS)},
            field="overlap",
        )
    if token.user_id != user.pk:
        raise NotAllowed(_("This token belongs to someone else."))
    length = OVERLAPS[overlap].length
    with recorded():
        if token.grant_id is None:
            lock_person(user.pk)
        else:
            lock_grant(token.grant_id)
        rows = AccessToken.objects.select_for_update(no_key=True, of=("self",)).select_related("grant")
        old = rows.get(pk=token.pk)
        now = timezone.now()
        _check_rotatable(old, user, now, stays=bool(length))
        made = write_token(
            actor=user,
            replaces=old,
            user=user,
            kind=old.kind,
            grant=old.grant,
            name=old.name,
            networks=old.networks,
            origin=old.origin,
            expires_at=now + min(old.expires_at - old.created_at, LONGEST_LIFE) if old.expires_at else None,
        )
        _end_old(old, made.token, now, length)
        ends_at = old.revoked_at or old.expires_at
        until = ends_at.isoformat() if ends_at else ""
        data = {"token": old.pk, "successor": made.token.pk, "until": until}
        say_of_token("token.rotated", old, actor=user, data=data)
        if old.grant is None:
            announce_token(made.token, replaces=old)
    return made


def _check_rotatable(old: AccessToken, user: User, now: datetime, *, stays: bool) -> None:
    """Check the token and the number of tokens; those in their overlap count too, or rotation would have no limit."""
    if old.replaced_by_id:
        raise Conflict(
            _("The token “%(name)s” has already been rotated: rotate its replacement.") % {"name": old.name}
        )
    if old.revoked_at or (old.expires_at and old.expires_at <= now):
        raise Conflict(
            _("The token “%(name)s” has ended, so there is nothing to rotate: make a new one.")
            % {"name": old.name}
        )
    if old.origin not in {TokenOrigin.PAGE, TokenOrigin.OPERATOR}:
        raise Conflict(
            _("“%(name)s” renews itself where it was signed in: sign in there again instead.")
            % {"name": old.name}
        )
    if old.grant is not None:
        usable_grant(old.grant, user)
    else:
        check_person(user, TokenKind(old.kind))
    beside = old.grant.tokens.all() if old.grant else own_tokens(user)
    if live_tokens(beside.filter(origin__in=BY_HAND)).count() + stays > MOST_TOKENS:
        raise Conflict(
            _("There are already %(most)s live tokens: revoke one first, or let the old one end now.")
            % {"most": MOST_TOKENS}
        )


def _end_old(old: AccessToken, successor: AccessToken, now: datetime, length: timedelta) -> None:
    old.replaced_by = successor
    if length:
        old.expires_at = min(old.expires_at or now + length, now + length)
    else:
        old.revoked_at, old.revoke_reason = now, REPLACED
    old.save(update_fields=["replaced_by", "expires_at", "revoked_at", "revoke_reason"])
