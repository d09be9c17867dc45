"""Create tokens, each in one transaction with its event, and end them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.access.permissions import decides_somewhere, is_reviewer
from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import AccessToken, Grant
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_grant, lock_person
from access_requests.services.tokens.networks import check_networks
from access_requests.services.tokens.secret import digest, hint, make_secret

if TYPE_CHECKING:
    from portal.accounts.models import User

FIRST_TOKEN_NAME = "First token"  # noqa: S105 - a name
BY_HAND = (TokenOrigin.PAGE, TokenOrigin.OPERATOR)  # tokens of machines and CI jobs have their own limits
LONGEST_LIFE = timedelta(days=3653)  # ten years
MOST_TOKENS = 20  # live tokens per grant, and per person without a grant


@dataclass(frozen=True)
class Issued:
    """A token's row, and its secret, which is known only now."""

    token: AccessToken
    secret: str


def show_first_token(*, grant: Grant, user: User) -> Issued:
    """Return the first token of a grant, made when it is shown, so that its secret is never stored."""
    with recorded():
        grant = usable_grant(grant, user)
        if grant.first_token_at is not None:
            raise Conflict(
                _(
                    "Your first token was shown on %(day)s at %(time)s UTC and cannot be shown again: "
                    "make another one below."
                )
                % {"day": f"{grant.first_token_at:%Y-%m-%d}", "time": f"{grant.first_token_at:%H:%M}"}
            )
        grant.first_token_at = timezone.now()
        grant.save(update_fields=["first_token_at"])
        return write_token(actor=user, user=grant.user, grant=grant, name=FIRST_TOKEN_NAME)


def issue_token(
    *,
    grant: Grant,
    user: User,
    name: str,
    expires_at: datetime | None = None,
    networks: Sequence[str] = (),
    actor: User | None = None,
) -> Issued:
    """Make another token for a grant.

    Names of live tokens are unique, so that a repeated request makes only one.
    """
    name, allowed = _check_wishes(name, expires_at), check_networks(networks)
    with recorded():
        grant = usable_grant(grant, user)
        full = _("This grant already has %(most)s tokens: revoke one first.")
        _check_room(live_tokens(grant.tokens.filter(origin__in=BY_HAND)), name, full)
        return write_token(
            actor=actor or user,
            user=grant.user,
            grant=grant,
            name=name,
            expires_at=expires_at,
            networks=allowed,
        )


def issue_person_token(
    *,
    user: User,
    kind: TokenKind,
    name: str,
    expires_at: datetime | None = None,
    networks: Sequence[str] = (),
    origin: TokenOrigin = TokenOrigin.PAGE,
    actor: User | None = None,
    announce: bool = False,
) -> Issued:
    """Make a token for a person: `USER` reads all their models, `REVIEWER` decides as well.

    Tokens made on a page have unique names; those of machines have their own limits. With `announce`, email
    the person.
    """
    if kind == TokenKind.GRANT:
        raise ValueError("a grant's token is made by issue_token")
    name, allowed = _check_wishes(name, expires_at), check_networks(networks)
    with recorded():
        if origin == TokenOrigin.PAGE:  # these are counted
            user = lock_person(user.pk)
        check_person(user, kind)
        if origin == TokenOrigin.PAGE:
            full = _("You already have %(most)s tokens: revoke one first.")
            _check_room(live_tokens(own_tokens(user).filter(origin=origin)), name, full)
        issued = write_token(
            actor=actor or user,
            user=user,
            kind=kind,
            name=name,
            expires_at=expires_at,
            networks=allowed,
            origin=origin,
        )
        if announce:
            announce_token(issued.token)
    return issued


def _check_wishes(name: str, expires_at: datetime | None) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 100 or not name.isprintable():
        raise Invalid(
            _("Give the token a name of 1 to 100 visible characters, so that you can recognise it."),
            field="name",
        )
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise Invalid(_("This day is in the past: choose a later one."), field="expires_at")
    if expires_at is not None and expires_at > now + LONGEST_LIFE:
        raise Invalid(
            _("The last day can be at most ten years from now: choose an earlier one, or none."),
            field="expires_at",
        )
    return name


def check_person(user: User, kind: TokenKind) -> None:
    """Raise `NotAllowed` if this person may not have this kind of token."""
    if not user.is_active:
        raise NotAllowed(_("This account is disabled: no token is made for it."))
    if kind == TokenKind.REVIEWER and not decides_somewhere(user):
        raise NotAllowed(
            _(
                "Reviewer tokens are for owners and reviewers of a model, and you are neither: "
                "make a token that reads your models."
            )
        )


def _check_room(live: QuerySet[AccessToken], name: str, full: str) -> None:
    """Check that no other live token has the name, and that there is room; a rotated token passes its name on.

    `full` is the sentence if there is no room.
    """
    if made := live.filter(name=name, replaced_by__isnull=True).first():
        raise Conflict(
            _(
                "The token “%(name)s” was made on %(day)s at %(time)s UTC and cannot be shown again: "
                "revoke it, or give the new one another name."
            )
            % {"name": name, "day": f"{made.created_at:%Y-%m-%d}", "time": f"{made.created_at:%H:%M}"}
        )
    if live.count() >= MOST_TOKENS:
        raise Conflict(full % {"most": MOST_TOKENS})


def live_tokens(tokens: QuerySet[AccessToken]) -> QuerySet[AccessToken]:
    """Return the tokens that still work."""
    return tokens.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None)


def own_tokens(user: User) -> QuerySet[AccessToken]:
    """Return a person's tokens that belong to no grant."""
    return AccessToken.objects.filter(user=user, grant__isnull=True)


def usable_grant(grant: Grant, user: User) -> Grant:
    """Lock and return the grant, if it is live and belongs to this person."""
    locked = lock_grant(grant.pk)
    if locked.user_id != user.pk:
        raise NotAllowed(_("This grant belongs to someone else."))
    if not locked.is_live():
        raise Conflict(
            _("Your access to %(model)s has ended: ask again at %(address)s")
            % {"model": locked.model, "address": locked.model.address()}
        )
    return locked


def write_token(*, actor: User, replaces: AccessToken | None = None, **fields: Any) -> Issued:
    """Write the row and its event, inside the caller's transaction."""
    secret = make_secret()
    token = AccessToken.objects.create(digest=digest(secret), hint=hint(secret), **fields)
    data = {"token": token.pk, "name": token.name}
    if token.grant is None:
        data["for"] = token.kind
    if token.networks:
        data["networks"] = token.networks
    if replaces is not None:
        data["replaces"] = replaces.pk
    say_of_token("token.issued", token, actor=actor, data=data)
    return Issued(token, secret)


def announce_token(token: AccessToken, *, replaces: AccessToken | None = None) -> None:
    """Email the person that a token for more than one model was made, in the caller's transaction."""
    queue_mail(
        key=f"token-made:{token.pk}",
        to=token.user.email,
        template="mails/token_made.txt",
        context={"person": token.user, "token": token, "replaces": replaces},
    )


def say_of_token(
    kind: str, token: AccessToken, *, actor: User | None = None, by: str = "system", data: dict[str, Any]
) -> None:
    """Append an event about a token, with its grant if it has one."""
    grant = token.grant
    append_event(
        kind=kind,
        actor=actor,
        by=by,
        model=grant.model if grant else None,
        grant=grant,
        request=grant.request if grant else None,
        data=data,
    )


def revoke_token(*, token: AccessToken, user: User, reason: str = "") -> None:
    """Revoke a token at once; idempotent. Allowed for its person, superusers, and reviewers of its grant's model.

    If someone else revoked the token, email its owner.
    """
    if not may_revoke_token(token, user):
        raise NotAllowed(_("This token belongs to someone else."))
    mine = token.user_id == user.pk
    reason = " ".join(reason.split())[:200]
    with recorded():
        if end_token(token, reason):
            data = {"token": token.pk} | ({"reason": reason} if reason else {})
            say_of_token("token.revoked", token, actor=user, data=data)
            if not mine:
                tell_of_end(token, reason=reason)


def may_revoke_token(token: AccessToken, user: User) -> bool:
    """Return whether the person may revoke this token: its person, superusers, and reviewers of its grant's model."""
    mine = token.user_id == user.pk or user.is_superuser
    return mine or bool(token.grant and is_reviewer(user, token.grant.model))


def end_token(token: AccessToken, reason: str) -> bool:
    """End a token; return False if it had already ended."""
    live = AccessToken.objects.filter(pk=token.pk, revoked_at__isnull=True)
    return bool(live.update(revoked_at=timezone.now(), revoke_reason=reason))


def tell_of_end(token: AccessToken, *, reason: str, found: str = "") -> None:
    """Email the token's person that someone else ended it; `found` is where a leaked token was seen."""
    queue_mail(
        key=f"token-revoked:{token.pk}",
        to=token.user.email,
        template="mails/token_revoked.txt",
        context={
            "person": token.user,
            "token": token,
            "reason": reason,
            "found": found,
            "page": token_page(token),
        },
    )


def token_page(token: AccessToken) -> str:
    """Return the address for making another token: the model's access page, or the person's page of tokens."""
    if token.grant is not None:
        return f"{token.grant.model.address()}/access"
    return f"{settings.GATEHOUSE_URL}/me/tokens"
