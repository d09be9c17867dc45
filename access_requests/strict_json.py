"""Read JSON from strangers: check its size and nesting before parsing it."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 64  # levels of lists and objects; what clients send has 5
_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class NotJson(ValueError):
    """The text is not JSON, or not accepted here; the message is the end of a sentence that says why."""


def read_json(content: bytes | str, *, largest: int, deepest: int = DEEPEST) -> Any:
    """Return the value of a JSON text in UTF-8, in time that grows only with its length.

    Raises NotJson for more than `largest` bytes (for a str: characters), for lists and objects nested more
    than `deepest` levels deep, and for anything that is not JSON (RFC 8259; a byte-order mark is skipped).
    """
    if len(content) > largest:
        raise NotJson(f"it is longer than {largest:,} bytes")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise NotJson("it is not JSON in UTF-8") from error
    if is_deeper(text, deepest):
        raise NotJson(f"it is nested more than {deepest} levels deep")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except NotJson:
        raise
    except (ValueError, RecursionError) as error:
        raise NotJson("it is not JSON in UTF-8") from error


def is_deeper(text: str, deepest: int) -> bool:
    """Return whether lists and objects are nested deeper than `deepest`, ignoring brackets in strings."""
    if text.count("[") + text.count("{") <= deepest:
        return False
    depth = 0
    for found in _MARK.finditer(text):
        mark = found[0]
        if mark in {"[", "{"}:
            depth += 1
            if depth > deepest:
                return True
        elif mark in {"]", "}"}:
            depth -= 1
    return False


def _refuse_constant(name: str) -> None:
    raise NotJson(f"{name} is not JSON")
