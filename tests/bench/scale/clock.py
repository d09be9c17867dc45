"""Format seconds since 1970 as text, quickly: the form in an event's digest, which PostgreSQL reads too."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

DAY = 86_400
_SECONDS = tuple(f"T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}.000000+00:00" for s in range(DAY))


@cache
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")


def moment(seconds: int) -> str:
    """Return the moment as `2026-11-30T12:00:00.000000+00:00`."""
    return _date(seconds // DAY) + _SECONDS[seconds % DAY]


def maybe(seconds: int) -> str | None:
    """Return the same as `moment`, or an empty text for 0."""
    return moment(seconds) if seconds else None
