"""Errors of the token endpoints."""

from __future__ import annotations

from access_requests.errors import RuleError


class OAuthError(RuleError):
    """A refusal: clients act on `code` (RFC 6749, RFC 8628 or RFC 8693); the sentence is its description."""

    def __init__(self, code: str, sentence: str, *, status: int = 400) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status


class TooMany(RuleError):
    """Too many attempts; after `seconds` another one may succeed."""

    code = "too_many"
    status = 429

    def __init__(self, sentence: str, *, seconds: int) -> None:
        super().__init__(sentence)
        self.seconds = seconds
