"""Request everything in the table from a running portal, one after another, and judge the answers."""

from __future__ import annotations

import http.client
import re
import statistics
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from portal.embedded.supervisor import Supervisor
from tests.bench.scale.asking import (
    LONGEST,
    Timed,
    bearer,
    end_statements,
    order,
    processes,
    session,
    timed,
)
from tests.bench.scale.table import HUB, PLACES, ROWS_A_SECOND, ROWS_TO_JUDGE, TASK, Row, rows_for

CSV = "/admin/model_ops/download/csv/"
CSV_WITHIN = 120.0  # seconds; the rate covers what arrived until then
WALK = 60.0  # seconds and pages that it may take to reach the middle of a list
PAGES = 25
VERIFY_WITHIN = 1800.0
PIECE = 2**16


def measure(portal: Supervisor, *, verify: bool = True) -> list[Row]:
    """Return the whole table with its figures."""
    made = order(portal.environment, "prepare")
    rows = []
    for row in rows_for(made):
        rows.append(_asked(portal, row))
        say(rows[-1])
    for place in PLACES:
        rows.append(_middle(portal, made, place))
        say(rows[-1])
    rows = _counted(portal, rows)
    rows += [*_tasks(portal), _table_of_downloads(portal, made)]
    if verify:
        rows.append(_verified(portal))
    return [row.judged() for row in rows]


def say(row: Row) -> None:
    """Print the progress to standard error."""
    print(f"{row.what}: {row.figure or f'{row.median:.1f} ms'} {row.note}", file=sys.stderr, flush=True)


def _asked(portal: Supervisor, row: Row) -> Row:
    return _filled(portal, row, timed(portal.address, row.method, row.path, row.headers or {}))


def _filled(portal: Supervisor, row: Row, found: Timed) -> Row:
    """Fill the row in; a late or bad answer counts as missed."""
    if found.status == 0:
        end_statements(portal)
        return replace(row, figure=f"> {LONGEST:.0f} s", missed=True)
    if found.status != 200:
        return replace(
            row, median=found.median, longest=found.longest, note=f"status {found.status}", missed=True
        )
    return replace(row, median=found.median, longest=found.longest)


def _middle(portal: Supervisor, made: dict[str, Any], place: str) -> Row:
    """Follow a list's links for some pages, and time the page that they lead to."""
    headers = bearer(made["tokens"]["reviewer"])
    path = f"/api/models/{made['repo']}/user-access-request/{place}"
    turned, until = 0, time.monotonic() + WALK
    with closing(http.client.HTTPConnection(urlsplit(portal.address).netloc, timeout=LONGEST)) as connection:
        while turned < PAGES and time.monotonic() < until:
            try:
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                break
            following = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            if following is None:
                break
            parts = urlsplit(following[1])
            path, turned = f"{parts.path}?{parts.query}", turned + 1
    row = Row(f"Hub list {place}, page {turned + 1}", path, headers, HUB)
    return _asked(portal, row)


def _counted(portal: Supervisor, rows: list[Row]) -> list[Row]:
    """Add the number of queries to each row that was answered in time."""
    asked = [row for row in rows if row.median is not None]
    order_of = [{"method": row.method, "path": row.path, "headers": row.headers} for row in asked]
    counts = order(portal.environment, "queries", asked=order_of).get("counts", [])
    found = dict(zip((row.what for row in asked), counts, strict=False))
    return [replace(row, queries=found.get(row.what)) for row in rows]


def _tasks(portal: Supervisor) -> list[Row]:
    found = order(portal.environment, "tasks", within=300)
    rows = []
    for name in ("resume_deliveries", "close_ended_grants", "render_outdated"):
        row = Row(f"task {name}, nothing to do", limit=TASK)
        took = [1000 * seconds for seconds in found.get(name, [])]
        if took:
            row = replace(row, median=statistics.median(took), longest=max(took))
        else:
            row = replace(row, figure="> 300 s", missed=True)
        rows.append(row)
        say(row)
    return rows


class _Peak:
    """Polls the memory of the web processes and keeps the peak."""

    def __init__(self, portal: Supervisor) -> None:
        self._portal, self._done = portal, threading.Event()
        self.before = self.most = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _now(self) -> float:
        return max((one.rss for one in processes(self._portal) if one.part.startswith("web")), default=0.0)

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            self.most = max(self.most, self._now())

    def close(self) -> None:
        self._done.set()
        self._thread.join()


def _table_of_downloads(portal: Supervisor, made: dict[str, Any]) -> Row:
    """Read the download log as CSV; return rows a second, and the web process's memory."""
    row = Row("downloads as CSV, all", CSV, session(made["sessions"]["superuser"]), 0)
    memory, count, first, status = _Peak(portal), 0, 0.0, 0
    began = time.perf_counter()
    with closing(http.client.HTTPConnection(urlsplit(portal.address).netloc, timeout=LONGEST)) as connection:
        try:
            connection.request("GET", CSV, headers=row.headers or {})
            answer = connection.getresponse()
            status = answer.status
            while (piece := answer.read1(PIECE)) and time.perf_counter() - began < CSV_WITHIN:
                first = first or time.perf_counter() - began
                count += piece.count(b"\n")
        except (OSError, http.client.HTTPException):
            status = status or 0
    seconds = time.perf_counter() - began
    memory.close()
    rate = (count - 1) / seconds
    whole = "" if seconds < CSV_WITHIN else " (cut off)"
    row = replace(
        row, figure=f"{rate:,.0f} rows/s",
        note=f"of {ROWS_A_SECOND:,} wanted; {max(0, count - 1):,} rows in {seconds:.1f} s{whole}, first after {first:.2f} s, "
        f"web process {memory.before:.0f} MiB before, {memory.most:.0f} MiB at most",
        missed=status != 200 or (rate < ROWS_A_SECOND and count > ROWS_TO_JUDGE),
    )  # fmt: skip
    say(row)
    return row


def _verified(portal: Supervisor) -> Row:
    found = order(portal.environment, "verify", within=VERIFY_WITHIN)
    row = Row("verify_audit", limit=0)
    if not found:
        return replace(row, figure=f"> {VERIFY_WITHIN:.0f} s")
    row = replace(
        row, figure=f"{found['seconds']:.0f} s", note=f"{found['events']:,} events", missed=not found["ok"]
    )
    say(row)
    return row
