"""Access tokens: shown once, stored as digests.

checking  finds who sent a secret, and whether it works
issuing   creates and revokes tokens, each with its event
networks  the networks from which a token works
rotating  makes a successor at once; the old token keeps working for a chosen overlap
secret    the form of a secret, its checksum and digest
uses      when a token was last used: noted in memory, written outside of requests
"""

from access_requests.services.tokens.checking import TokenRefused, authenticate
from access_requests.services.tokens.issuing import (
    FIRST_TOKEN_NAME,
    MOST_TOKENS,
    Issued,
    issue_person_token,
    issue_token,
    may_revoke_token,
    revoke_token,
    show_first_token,
    token_page,
)
from access_requests.services.tokens.rotating import OVERLAPS, Overlap, rotate_token
from access_requests.services.tokens.secret import (
    ALPHABET,
    PREFIX,
    REFRESH_PREFIX,
    checksum,
    digest,
    looks_right,
    make_secret,
)
from access_requests.services.tokens.uses import flush_uses

__all__ = [
    "ALPHABET",
    "FIRST_TOKEN_NAME",
    "MOST_TOKENS",
    "OVERLAPS",
    "PREFIX",
    "REFRESH_PREFIX",
    "Issued",
    "Overlap",
    "TokenRefused",
    "authenticate",
    "checksum",
    "digest",
    "flush_uses",
    "issue_person_token",
    "issue_token",
    "looks_right",
    "make_secret",
    "may_revoke_token",
    "revoke_token",
    "rotate_token",
    "show_first_token",
    "token_page",
]
