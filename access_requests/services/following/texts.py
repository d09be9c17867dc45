"""Text of a remote as text that can be stored and shown."""

from __future__ import annotations

import unicodedata
from typing import Any

UNSEEN = {"Cc", "Cf", "Cs"}
LONGEST_LINE = (
    2000  # characters; bringing long runs of combining marks into order takes the square of their number
)


def one_line(text: Any, *, longest: int = LONGEST_LINE) -> str:
    """Return text without line ends and without characters that cannot be seen or that turn others around.

    What is longer than `longest` is cut; "" for anything that is not text.
    """
    if not isinstance(text, str):
        return ""
    spaced = " ".join(unicodedata.normalize("NFC", text[:longest].replace("\0", " ")).split())
    return "".join(c for c in spaced if c in "\u200c\u200d" or unicodedata.category(c) not in UNSEEN)
