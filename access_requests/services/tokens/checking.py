"""Who sent a secret."""

from __future__ import annotations

from django.utils import timezone

from access_requests.errors import RuleError
from access_requests.models import AccessToken
from access_requests.services.tokens.issuing import token_page
from access_requests.services.tokens.networks import works_from
from access_requests.services.tokens.secret import digest, looks_right
from access_requests.services.tokens.uses import uses


class TokenRefused(RuleError):
    code = "token_refused"
    status = 401


def authenticate(secret: str, *, address: str | None = None, client: str = "") -> AccessToken:
    """The token behind a secret, with its grant, model and person; one indexed look-up by digest.

    Says who it is, not what is allowed: a token of an ended grant still names its person, so that the
    refusal can say why. The use is noted, and written later. Raises `TokenRefused`.
    """
    if not looks_right(secret):
        raise TokenRefused("This is not a Gatehouse token: copy it whole from the model's access page.")
    token = (
        AccessToken.objects.select_related("grant__model", "user")
        .defer("grant__model__card", "grant__model__card_data")
        .filter(digest=digest(secret))
        .first()
    )
    if token is None:
        raise TokenRefused("This token is not known here: make a new one on the model's access page.")
    if problem := _problem(token, address):
        raise TokenRefused(problem)
    uses.note(token.pk, address=address, client=client)
    return token


def _problem(token: AccessToken, address: str | None) -> str:
    """What is wrong with a token that was made here, with where to go; "" if nothing is."""
    page, person = token_page(token), token.user
    if not person.is_active:
        return "The account of this token is disabled: write to the owner of the model."
    if token.revoked_at is not None:
        why = f" ({token.revoke_reason})" if token.revoke_reason else ""
        return f"This token was revoked on {token.revoked_at:%Y-%m-%d}{why}: make a new one at {page}"
    if token.expires_at is not None and token.expires_at <= timezone.now():
        return f"This token ended on {token.expires_at:%Y-%m-%d}: {_next(token)} at {page}"
    if not works_from(token.networks, address):
        return (
            f"This token does not work from {address or 'an unknown address'}, "
            f"which is outside the networks that were set for it: use it there, or make another one at {page}"
        )
    return ""


def _next(token: AccessToken) -> str:
    return "use the one that replaced it, or make a new one" if token.replaced_by_id else "make a new one"
