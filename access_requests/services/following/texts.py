"""Clean text of a remote so that it can be stored and shown."""

from __future__ import annotations

from typing import Any

from access_requests.lines import visible_line

LONGEST_LINE = (
    2000  # characters; bringing long runs of combining marks into order takes the square of their number
)


def one_line(text: Any, *, longest: int = LONGEST_LINE) -> str:
    """Return `visible_line` of the first `longest` characters; "" for anything that is not text."""
    if not isinstance(text, str):
        return ""
    return visible_line(text[:longest].replace("\0", " "))
