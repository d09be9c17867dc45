"""Secrets: made when a person looks, shown once, stored as digests."""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import AccessToken, Grant
from access_requests.services.audit import append_event, recorded

if TYPE_CHECKING:
    from portal.accounts.models import User

PREFIX = "gth_"
BODY_LENGTH = 32  # base62 characters: 190 bits
CHECK_LENGTH = 6  # CRC-32 of prefix and body in base62, so that secret scanners tell real tokens from noise
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
FIRST_TOKEN_NAME = "First token"  # noqa: S105 - a name
MOST_TOKENS = 20  # live ones per grant
NOTE_USE_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Issued:
    """The row, and the secret that is known only now."""

    token: AccessToken
    secret: str


class TokenRefused(RuleError):
    code = "token_refused"
    status = 401


def make_secret() -> str:
    """`gth_` + 32 base62 characters + 6 characters of CRC-32 in base62."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(BODY_LENGTH))
    return PREFIX + body + checksum(PREFIX + body)


def checksum(text: str) -> str:
    """CRC-32 of the text as six base62 digits (0-9, A-Z, a-z), most significant first."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def looks_right(secret: str) -> bool:
    """Prefix, length, alphabet and checksum; nothing is looked up."""
    body, check = secret[:-CHECK_LENGTH], secret[-CHECK_LENGTH:]
    return (
        len(secret) == len(PREFIX) + BODY_LENGTH + CHECK_LENGTH
        and body.startswith(PREFIX)
        and set(body[len(PREFIX) :]) <= set(ALPHABET)
        and secrets.compare_digest(checksum(body).encode(), check.encode())
    )


def digest(secret: str) -> str:
    """SHA-256 hex: a plain hash suffices, the secret has 190 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def show_first_token(*, grant: Grant, user: User) -> Issued:
    """The one token that approval entitles to; made at the first look, so it has never lain anywhere."""
    with recorded():
        grant = _usable_grant(grant, user)
        if grant.first_token_at is not None:
            raise Conflict(
                f"Your first token was shown on {grant.first_token_at:%Y-%m-%d at %H:%M} UTC and cannot be shown again: "
                "make another one below."
            )
        grant.first_token_at = timezone.now()
        grant.save(update_fields=["first_token_at"])
        return _issue(grant=grant, name=FIRST_TOKEN_NAME, expires_at=None, actor=user)


def issue_token(
    *, grant: Grant, user: User, name: str, expires_at: datetime | None = None, actor: User | None = None
) -> Issued:
    """One more token for the same grant; the person's live tokens differ by name, so that asking twice makes one."""
    name = " ".join(name.split())
    if not name or len(name) > 100 or not name.isprintable():
        raise Invalid(
            "Give the token a name of 1 to 100 visible characters, so that you know it again.", field="name"
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid("The token would have ended already: choose a later day.", field="expires_at")
    with recorded():
        grant = _usable_grant(grant, user)
        now = timezone.now()
        live = grant.tokens.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)
        if made := live.filter(name=name).first():
            raise Conflict(
                f"The token “{name}” was made on {made.created_at:%Y-%m-%d at %H:%M} UTC and cannot be shown again: "
                "revoke it, or give the new one another name."
            )
        if live.count() >= MOST_TOKENS:
            raise Conflict(f"This grant has {MOST_TOKENS} tokens already: revoke one first.")
        return _issue(grant=grant, name=name, expires_at=expires_at, actor=actor or user)


def _usable_grant(grant: Grant, user: User) -> Grant:
    locked = Grant.objects.select_for_update(of=("self",)).select_related("model", "user").get(pk=grant.pk)
    if locked.user_id != user.pk:
        raise NotAllowed("This grant belongs to somebody else.")
    if not locked.is_live():
        raise Conflict(f"Your access to {locked.model} has ended: ask again at {locked.model.address()}")
    return locked


def issue_person_token(
    *,
    user: User,
    kind: TokenKind,
    name: str,
    expires_at: datetime | None = None,
    origin: TokenOrigin = TokenOrigin.PAGE,
    actor: User | None = None,
) -> Issued:
    """A token that stands for its person: `USER` reads all their models, `REVIEWER` decides as well."""
    if kind == TokenKind.GRANT:
        raise ValueError("a grant's token is made by issue_token")
    with recorded():
        return _write(
            actor=actor or user, user=user, kind=kind, name=name, expires_at=expires_at, origin=origin
        )


def _issue(*, grant: Grant, name: str, expires_at: datetime | None, actor: User) -> Issued:
    return _write(actor=actor, user=grant.user, grant=grant, name=name, expires_at=expires_at)


def _write(*, actor: User, **fields: Any) -> Issued:
    secret = make_secret()
    token = AccessToken.objects.create(digest=digest(secret), hint=f"{secret[:8]}…{secret[-4:]}", **fields)
    append_event(
        kind="token.issued",
        actor=actor,
        model=token.grant.model if token.grant else None,
        grant=token.grant,
        request=token.grant.request if token.grant else None,
        data={"token": token.pk, "name": token.name, **({} if token.grant else {"for": token.kind})},
    )
    return Issued(token, secret)


def revoke_token(*, token: AccessToken, user: User) -> None:
    """Ends a token at once; twice is once. Its person, or a superuser, may."""
    if token.user_id != user.pk and not user.is_superuser:
        raise NotAllowed("This token belongs to somebody else.")
    with recorded():
        if AccessToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now()):
            grant = token.grant
            append_event(
                kind="token.revoked",
                actor=user,
                model=grant.model if grant else None,
                grant=grant,
                request=grant.request if grant else None,
                data={"token": token.pk},
            )


def token_page(token: AccessToken) -> str:
    """Where its person makes another one: the access page of its model, or their own page of tokens."""
    if token.grant is not None:
        return f"{token.grant.model.address()}/access"
    return f"{settings.GATEHOUSE_URL}/me/tokens"


def authenticate(secret: str, *, address: str | None = None, client: str = "") -> AccessToken:
    """The token behind a secret, with its grant, model and person; one indexed look-up by digest.

    Says who it is, not what is allowed: a token of an ended grant still names its person, so that the
    refusal can say why. Raises `TokenRefused`.
    """
    if not looks_right(secret):
        raise TokenRefused("This is not a Gatehouse token: copy it whole from the model's access page.")
    token = (
        AccessToken.objects.select_related("grant__model", "grant__request", "user")
        .filter(digest=digest(secret))
        .first()
    )
    if token is None:
        raise TokenRefused("This token is not known here: make a new one on the model's access page.")
    page = token_page(token)
    if token.revoked_at is not None:
        raise TokenRefused(f"This token was revoked on {token.revoked_at:%Y-%m-%d}: make a new one at {page}")
    if token.expires_at is not None and token.expires_at <= timezone.now():
        raise TokenRefused(f"This token ended on {token.expires_at:%Y-%m-%d}: make a new one at {page}")
    if not token.user.is_active:
        raise TokenRefused("The account of this token is disabled: write to the owner of the model.")
    _note_use(token, address, client)
    return token


def _note_use(token: AccessToken, address: str | None, client: str) -> None:
    now = timezone.now()
    if (
        token.last_used_at
        and token.last_used_at > now - NOTE_USE_EVERY
        and token.last_used_address == address
    ):
        return
    AccessToken.objects.filter(pk=token.pk).filter(
        Q(last_used_at__isnull=True) | Q(last_used_at__lt=now)
    ).update(last_used_at=now, last_used_address=address, last_used_client=client.replace("\0", "")[:200])
