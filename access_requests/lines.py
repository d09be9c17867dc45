"""Clean text from strangers and put it on one line, for a header or for a page and the database.

The recovery engine imports nothing from the portal and cleans lines for terminals itself:
`model_ops.recovery.errors`.
"""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # Persian and several Indic scripts need them for spelling
_UNSEEN = {"Cc", "Cf", "Cs"}


def ascii_line(text: str, *, longest: int, without: str = "") -> str:
    """Return printable ASCII without line breaks, for a header; characters of `without` become spaces."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode("ascii")
    kept = "".join(c if " " <= c <= "~" and c not in without else " " for c in plain)
    return " ".join(kept.split())[:longest]


def visible_line(text: str) -> str:
    """Return composed text with plain spaces, without invisible or direction-changing characters."""
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(c for c in spaced if c in _JOINERS or unicodedata.category(c) not in _UNSEEN)
