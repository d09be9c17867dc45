"""Find and replace characters that JSON allows and the database refuses: NUL, halves of surrogate pairs.

PostgreSQL refuses NUL; a half of a surrogate pair cannot be encoded in UTF-8.
"""

from __future__ import annotations

import re

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether the database accepts the text."""
    return _UNSTORABLE.search(text) is None


def drop_unstorable(text: str) -> str:
    """Return the text without the characters that the database refuses."""
    return _UNSTORABLE.sub("", text)


def replace_unstorable(text: str) -> str:
    """Return the text with U+FFFD in place of each character that the database refuses."""
    return _UNSTORABLE.sub("\ufffd", text)
