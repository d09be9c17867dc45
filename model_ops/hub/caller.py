"""Who asks: a Bearer token names a person, else nobody. Cookies are not looked at, so a page can't make a browser download."""

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
    """`problem` says why a token that was sent is not accepted; its bearer then counts as nobody."""

    user: User | None = None
    token: AccessToken | None = None
    problem: str = ""
    address: str | None = None
    client: str = ""

    def person(self) -> User:
        """The person, or a 401."""
        if self.user is None:
            raise self.refusal()
        return self.user

    @property
    def decides(self) -> bool:
        """Whether the token carries its person's roles: decisions, settings and uploads need that."""
        return self.token is not None and self.token.kind == TokenKind.REVIEWER

    def refusal(self) -> Refused:
        return bad_token(
            self.problem
            or f"No token was sent: set HF_TOKEN to one from your model's access page or {settings.GATEHOUSE_URL}/me/tokens"
        )


def caller_of(request: HttpRequest) -> Caller:
    """Reads `Authorization`; a token that isn't accepted is no error yet, since much is public."""
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
