"""Make and check secrets: `gth_` (refresh tokens: `gthr_`), 32 random base62 characters, 6 of checksum."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "gth_"
REFRESH_PREFIX = "gthr_"
BODY_LENGTH = 32  # base62 characters: 190 bits
CHECK_LENGTH = 6  # CRC-32 of prefix and body in base62, so that secret scanners tell real tokens from noise
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# The pattern for secret scanners (docs/tokens.md); the checksum rejects matches inside longer runs of letters.
PATTERN = re.compile(rf"gthr?_[0-9A-Za-z]{{{BODY_LENGTH + CHECK_LENGTH}}}")


def make_secret(prefix: str = PREFIX) -> str:
    """Return the prefix + 32 base62 characters + 6 characters of CRC-32 in base62."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(BODY_LENGTH))
    return prefix + body + checksum(prefix + body)


def checksum(text: str) -> str:
    """Return CRC-32 of the text as six base62 digits (0-9, A-Z, a-z), most significant first."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def looks_right(secret: str, prefix: str = PREFIX) -> bool:
    """Return whether prefix, length, alphabet and checksum are right, without a lookup."""
    body, check = secret[:-CHECK_LENGTH], secret[-CHECK_LENGTH:]
    return (
        len(secret) == len(prefix) + BODY_LENGTH + CHECK_LENGTH
        and body.startswith(prefix)
        and set(body[len(prefix) :]) <= set(ALPHABET)
        and secrets.compare_digest(checksum(body).encode(), check.encode())
    )


def digest(secret: str) -> str:
    """Return SHA-256 (hex): a plain hash is enough, since the secret has 190 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hint(secret: str) -> str:
    """Return the first and last characters: enough to tell tokens apart, too little to guess one."""
    return f"{secret[:8]}…{secret[-4:]}"
