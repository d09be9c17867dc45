"""Find the token behind a secret."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.utils import timezone

from access_requests.access.compiled_query import SAMPLE_TEXT, CompiledQuery, columns, instance
from access_requests.errors import RuleError
from access_requests.models import AccessToken, GatedModel, Grant
from access_requests.services.tokens.issuing import token_page
from access_requests.services.tokens.networks import works_from
from access_requests.services.tokens.secret import digest, looks_right
from access_requests.services.tokens.uses import uses


class TokenRefused(RuleError):
    """A token that does not work; the text says why in one line."""

    code = "token_refused"
    status = 401


def authenticate(secret: str, *, address: str | None = None, client: str = "") -> AccessToken:
    """Return the token behind a secret, with its grant, model and person; one indexed lookup by digest.

    This tells who the person is, not what they may do: a token of an ended grant still names its person, so
    that the refusal can say why. The use is noted in memory and written later. Raises `TokenRefused`.
    """
    if not looks_right(secret):
        raise TokenRefused("This is not a Gatehouse token: copy it whole from the model's access page.")
    token = _find_token(secret)
    if token is None:
        raise TokenRefused("This token is not known here: make a new one on the model's access page.")
    if problem := _why_unusable(token, address):
        raise TokenRefused(problem)
    uses.note(token.pk, address=address, client=client)
    return token


def _find_token(secret: str) -> AccessToken | None:
    queries = _prepared_queries()
    rows = queries.by_digest(digest=digest(secret))
    if not rows:
        return None
    row = list(rows[0])
    token: AccessToken = instance(AccessToken, queries.of_token, _cut_columns(row, queries.of_token))
    token.user = instance(get_user_model(), queries.of_user, _cut_columns(row, queries.of_user))
    of_grant, of_model = _cut_columns(row, queries.of_grant), _cut_columns(row, queries.of_model)
    if token.grant_id is not None:
        token.grant = instance(Grant, queries.of_grant, of_grant)
        token.grant.model = instance(GatedModel, queries.of_model, of_model)
    return token


def _cut_columns(row: list[Any], names: list[str]) -> list[Any]:
    """Remove the next values from the row and return them."""
    taken = row[: len(names)]
    del row[: len(names)]
    return taken


@dataclass(frozen=True)
class _Queries:
    of_token: list[str]
    of_user: list[str]
    of_grant: list[str]
    of_model: list[str]
    by_digest: CompiledQuery


@cache
def _prepared_queries() -> _Queries:
    of_token = columns(AccessToken)
    of_user = columns(get_user_model(), but=["password"], prefix="user__")
    of_grant = columns(Grant, prefix="grant__")
    of_model = columns(GatedModel, but=["card", "card_data"], prefix="grant__model__")

    def by_digest(digest: str) -> QuerySet[Any, Any]:
        rows = AccessToken.objects.filter(digest=digest).order_by()
        return rows.values_list(*of_token, *of_user, *of_grant, *of_model)

    return _Queries(of_token, of_user, of_grant, of_model, CompiledQuery(by_digest, digest=SAMPLE_TEXT))


def _why_unusable(token: AccessToken, address: str | None) -> str:
    """Return what is wrong with a token made here, and where to go; "" if nothing is."""
    page, person = token_page(token), token.user
    if not person.is_active:
        return "The account of this token is disabled: write to the owner of the model."
    if token.revoked_at is not None:
        why = f" ({token.revoke_reason})" if token.revoke_reason else ""
        return f"This token was revoked on {token.revoked_at:%Y-%m-%d}{why}: make a new one at {page}"
    if token.expires_at is not None and token.expires_at <= timezone.now():
        advice = (
            "use the one that replaced it, or make a new one" if token.replaced_by_id else "make a new one"
        )
        return f"This token ended on {token.expires_at:%Y-%m-%d}: {advice} at {page}"
    if not works_from(token.networks, address):
        return (
            f"This token does not work from {address or 'an unknown address'}, "
            f"which is outside its allowed networks: use it inside them, or make another one at {page}"
        )
    return ""
