"""Text as the database takes it: without NUL characters and without halves of surrogate pairs, both of which JSON can spell.

PostgreSQL refuses the former; the latter have no form in UTF-8.
"""

from __future__ import annotations

import re

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether the database takes the text."""
    return _UNSTORABLE.search(text) is None


def drop_unstorable(text: str) -> str:
    """Return the text without what the database does not take."""
    return _UNSTORABLE.sub("", text)


def replace_unstorable(text: str) -> str:
    """Return the text with U+FFFD for each character that the database does not take."""
    return _UNSTORABLE.sub("\ufffd", text)
