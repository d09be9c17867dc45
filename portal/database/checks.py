"""Check that the server allows as many connections as the parts of the portal may hold together."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error, Tags, register
from django.db import connection

from portal.database import budget

ALLOWED = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int
"""


def too_many_connections() -> str:
    """Return the error if the portal may hold more connections than the server allows, or ""."""
    with connection.cursor() as cursor:
        cursor.execute(ALLOWED)
        allowed = cursor.fetchone()[0]
    return budget.too_many(settings.GATEHOUSE_DATABASE_CONNECTIONS, allowed=allowed)


@register(Tags.database)
def check_connections(*, databases: Any = None, **_: Any) -> list[Error]:
    """Fail `manage.py migrate` and `check --database default`, which compose runs before everything else."""
    sentence = too_many_connections() if databases and "default" in databases else ""
    return [Error(sentence, id="portal.E001")] if sentence else []
