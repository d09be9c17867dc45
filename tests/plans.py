"""Look at the query plans that PostgreSQL chooses."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def explained(*, among: str = "", bitmaps: bool = False) -> Generator[list[str]]:
    """Collect the plans of SELECTs that contain `among`, without scans and sorts that an index can avoid.

    Without `bitmaps`, bitmap scans are avoided too. The planner settings last until the test's transaction
    ends.
    """
    plans: list[str] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and among in sql and "pg_try" not in sql:
            execute(f"EXPLAIN {sql}", params, many, context)
            plans.append("\n".join(row[0] for row in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        if not bitmaps:
            cursor.execute("SET LOCAL enable_bitmapscan = off")
    with connection.execute_wrapper(explain):
        yield plans
