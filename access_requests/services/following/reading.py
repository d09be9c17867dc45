"""Read one entry of a remote's list as data that can be stored, whatever it contains."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.dateparse import parse_datetime

from access_requests.enums import FarStatus
from access_requests.services.following.texts import one_line
from access_requests.storable_text import replace_unstorable

LONGEST_ANSWER = 10_000  # characters
MOST_ANSWERS = 200
MOST_TEXT = 200_000  # characters of all answers together
DEEPEST = 20  # levels of lists and objects in one answer
YEARS = range(2000, 2200)  # years in which a person can have asked


@dataclass(frozen=True)
class FarItem:
    """A person in a list, known by name, by the request's id, or by both."""

    status: FarStatus
    request_id: str = ""
    user_id: str = ""
    name: str = ""
    full_name: str = ""
    email: str = ""
    asked_at: datetime | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def read_item(raw: Any, status: FarStatus) -> FarItem | None:
    """Return the entry, or None if it cannot be understood because it names no one."""
    try:
        if not isinstance(raw, Mapping):
            return None
        given = raw.get("user")
        user: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        request_id, name = _read_identifier(raw.get("requestId"), 100), _read_identifier(user.get("user"), 96)
        if not request_id and not name:
            return None
        return FarItem(
            status=status,
            request_id=request_id,
            user_id=_read_identifier(user.get("_id"), 64),
            name=name,
            full_name=one_line(user.get("fullname"), longest=1000)[:200],
            email=_read_address(user.get("email")),
            asked_at=_read_moment(raw.get("timestamp")),
            fields=_read_answers(raw.get("fields")),
        )
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None


def _read_identifier(value: Any, longest: int) -> str:
    """Return a name or id exactly as it must be sent back; "" if it could not be sent."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and re.fullmatch(rf"[!-~]{{1,{longest}}}", text) else ""


def _read_address(value: Any) -> str:
    """Return the address in lower case, as addresses are compared here."""
    if not isinstance(value, str) or len(value) > 254:
        return ""
    text = one_line(value).lower()
    try:
        validate_email(text)
    except ValidationError:
        return ""
    return text if len(text) <= 254 else ""


def _read_moment(value: Any) -> datetime | None:
    """Return the time in UTC; None if it is not a valid time, or no one can have asked then."""
    try:
        at = parse_datetime(value) if isinstance(value, str) and len(value) < 100 else None
        at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC) if at else None
    except (ValueError, OverflowError):
        return None
    return at if at and at.year in YEARS else None


def _read_answers(value: Any) -> dict[str, Any]:
    """Return label -> answer: text, number, boolean or list of texts; anything deeper as JSON. Long ones are cut."""
    if not isinstance(value, Mapping):
        return {}
    found: dict[str, Any] = {}
    room = MOST_TEXT
    for label, given in list(value.items())[:MOST_ANSWERS]:
        name, answer = one_line(label, longest=1000), _read_answer(given, room)
        if name and answer not in (None, ""):
            found[name] = answer
            size = sum(len(item) + 1 for item in answer) if isinstance(answer, list) else len(str(answer))
            room -= len(name) + size
        if room <= 0:
            break
    return found


def _read_answer(value: Any, room: int) -> Any:
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        texts: list[str] = []
        for item in value[:MOST_ANSWERS]:
            if room <= 0:
                break
            texts.append(_cut_text(item, room))
            room -= len(texts[-1]) + 1
        return texts
    if isinstance(value, str):
        return _cut_text(value, room)
    level = [value]
    for _ in range(DEEPEST):  # level by level, without recursion
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return "(nested too deeply)" if level else _cut_text(json.dumps(value, ensure_ascii=False), room)


def _cut_text(value: str, room: int) -> str:
    return replace_unstorable(value[: min(LONGEST_ANSWER, room)])
