"""Clean text of a remote so that it can be stored and shown."""

from __future__ import annotations

import unicodedata
from typing import Any

UNSEEN = {"Cc", "Cf", "Cs"}
LONGEST_LINE = 2000  # characters; sorting long runs of combining marks takes quadratic time


def one_line(text: Any, *, longest: int = LONGEST_LINE) -> str:
    """Return text on one line, without invisible characters or ones that change the direction of writing.

    Text longer than `longest` is cut; anything that is not text becomes "".
    """
    if not isinstance(text, str):
        return ""
    spaced = " ".join(unicodedata.normalize("NFC", text[:longest].replace("\0", " ")).split())
    return "".join(c for c in spaced if c in "\u200c\u200d" or unicodedata.category(c) not in UNSEEN)
