"""Identify the caller by Bearer token only.

Cookies are ignored, so that another site can't make a browser download files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest

from access_requests.enums import TokenKind
from access_requests.errors import RuleError
from access_requests.models import AccessToken
from access_requests.services import tokens
from model_ops.hub import limits
from model_ops.hub.refusals import Refused, bad_token

if TYPE_CHECKING:
    from portal.accounts.models import User


@dataclass(frozen=True)
class Caller:
    """The sender of a request; anonymous if the token is not accepted, for which `problem` is the reason."""

    user: User | None = None
    token: AccessToken | None = None
    problem: str = ""
    address: str | None = None
    client: str = ""

    def person(self) -> User:
        """Return the person, or raise a 401."""
        if self.user is None:
            raise self.refusal()
        return self.user

    @property
    def decides(self) -> bool:
        """Return whether the token carries its person's roles, as decisions, settings and uploads require."""
        return self.token is not None and self.token.kind == TokenKind.REVIEWER

    def refusal(self) -> Refused:
        return bad_token(
            self.problem
            or f"No token was sent: set HF_TOKEN to one from your model's access page or {settings.GATEHOUSE_URL}/me/tokens"
        )


def caller_of(request: HttpRequest) -> Caller:
    """Read `Authorization`; a token that isn't accepted is not an error yet, since much is public."""
    address: str | None = getattr(request, "client_address", None)
    client = "".join(c for c in request.headers.get("User-Agent", "") if c.isprintable())[:200]
    sent = request.headers.get("Authorization", "").strip()
    if not sent:
        return Caller(address=address, client=client)
    if sent.partition(" ")[0].lower() != "bearer":
        limits.check_unknown(request)
        problem = "The Authorization header must read 'Bearer TOKEN': set HF_TOKEN to your token."
        return Caller(problem=problem, address=address, client=client)
    try:
        token = tokens.authenticate(limits.secret_sent(request), address=address, client=client)
    except RuleError as error:
        limits.check_unknown(request)
        return Caller(problem=error.sentence, address=address, client=client)
    return Caller(token.user, token, "", address, client)
