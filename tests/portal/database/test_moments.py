"""Times come from the database to the microsecond and in UTC, whatever the session's time zone is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31 12:00:00+00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00.1+00", datetime(2026, 1, 31, 12, 0, 0, 100_000, tzinfo=UTC)),
        ("2026-01-31 12:00:00.000001+05:45", datetime(2026, 1, 31, 6, 15, 0, 1, tzinfo=UTC)),
        ("2024-10-27 00:30:00+00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        (
            "2024-10-27 01:30:00+00",
            datetime(2024, 10, 27, 1, 30, tzinfo=UTC),
        ),  # clocks in Berlin show 2:30 for the second time
        ("0001-01-02 00:00:00+00", datetime(1, 1, 2, tzinfo=UTC)),
        ("9999-12-30 23:59:59.999999+00", datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def test_moment_is_read_as_it_was_written(text: str, expected: datetime, zone: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        cursor.execute("SELECT %s::timestamptz", [text])
        (found,) = cursor.fetchone()
    assert (found, found.utcoffset()) == (expected, expected.utcoffset())


@pytest.mark.parametrize(
    "text", ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00"]
)
def test_moment_that_python_cannot_represent_is_an_error(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [text])
        with pytest.raises(Exception, match="timestamp"):
            cursor.fetchone()
