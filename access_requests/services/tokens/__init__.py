"""Manage tokens: made on demand, shown once, stored as digests.

`secret` defines their form, `networks` limits where they work, `issuing` makes and ends them, `rotating` replaces them,
`checking` finds who sent one, `uses` records when, and `services.leaked_secrets` ends leaked ones.
"""

from access_requests.services.tokens.checking import TokenRefused, authenticate
from access_requests.services.tokens.issuing import (
    FIRST_TOKEN_NAME,
    MOST_TOKENS,
    Issued,
    issue_person_token,
    issue_token,
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
    "revoke_token",
    "rotate_token",
    "show_first_token",
    "token_page",
]
