"""One entry of a far side's list, as data that can be kept: whatever is said there, nothing here breaks."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.dateparse import parse_datetime

from access_requests.enums import FarStatus

LONGEST_ANSWER = 10_000
MOST_ANSWERS = 200
UNSEEN = {"Cc", "Cf", "Cs"}


@dataclass(frozen=True)
class FarItem:
    """Who stands in which list; without a name the request's id says who, and the other way round."""

    status: FarStatus
    request_id: str = ""
    user_id: str = ""
    name: str = ""
    full_name: str = ""
    email: str = ""
    asked_at: datetime | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def read_item(raw: Any, status: FarStatus) -> FarItem | None:
    """The entry, or None for one that cannot be understood: it names nobody, in either way."""
    if not isinstance(raw, Mapping):
        return None
    given = raw.get("user")
    user: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    request_id, name = _identifier(raw.get("requestId"), 100), _identifier(user.get("user"), 96)
    if not request_id and not name:
        return None
    return FarItem(
        status=status,
        request_id=request_id,
        user_id=_identifier(user.get("_id"), 64),
        name=name,
        full_name=one_line(user.get("fullname"))[:200],
        email=_address(user.get("email")),
        asked_at=_moment(raw.get("timestamp")),
        fields=_answers(raw.get("fields")),
    )


def one_line(text: Any) -> str:
    """Text without line ends and without characters that cannot be seen or that turn others around."""
    if not isinstance(text, str):
        return ""
    spaced = " ".join(unicodedata.normalize("NFC", text.replace("\0", " ")).split())
    return "".join(c for c in spaced if c in "\u200c\u200d" or unicodedata.category(c) not in UNSEEN)


def _identifier(value: Any, longest: int) -> str:
    """A name or id exactly as it must be sent back; "" for what could not be."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and re.fullmatch(rf"[!-~]{{1,{longest}}}", text) else ""


def _address(value: Any) -> str:
    """In lower case, as addresses here are compared."""
    text = one_line(value).lower()
    try:
        validate_email(text)
    except ValidationError:
        return ""
    return text if len(text) <= 254 else ""


def _moment(value: Any) -> datetime | None:
    try:
        at = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if at is None:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _answers(value: Any) -> dict[str, Any]:
    """Label -> answer: text, number, truth or a list of texts; anything deeper as its JSON."""
    if not isinstance(value, Mapping):
        return {}
    pairs = (
        (one_line(label)[:1000], _answer(answer)) for label, answer in list(value.items())[:MOST_ANSWERS]
    )
    return {label: answer for label, answer in pairs if label and answer not in (None, "")}


def _answer(value: Any) -> Any:
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_text(item) for item in value[:MOST_ANSWERS]]
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _text(value: str) -> str:
    """What PostgreSQL's JSON can hold: no NUL, no half of a surrogate pair."""
    return re.sub(r"[\x00\ud800-\udfff]", "\ufffd", value)[:LONGEST_ANSWER]
