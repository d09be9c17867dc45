"""The rows of `bench scale`'s table: what is requested, by whom, and the portal's limits."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from tests.bench.scale.asking import bearer, session
from tests.bench.scale.words import COMMON, NOTHING, RARE

PAGE, LIST, HUB, TASK = 150.0, 50.0, 100.0, 5.0  # milliseconds
PERSON_QUERIES, RESOLVE_QUERIES = 20, 3
ROWS_A_SECOND = 50_000
ROWS_TO_JUDGE = 20_000  # with fewer, the time to the first row dominates
PLACES = ("pending", "accepted", "rejected", "reset")
ADMIN = "/admin/access_requests"


@dataclass(frozen=True)
class Row:
    """One line of the table; a limit of 0 means none. `figure` and `note` are filled in after measuring."""

    what: str
    path: str = ""
    headers: dict[str, str] | None = None
    limit: float = PAGE
    most_queries: int = 0
    method: str = "GET"
    median: float | None = None
    longest: float | None = None
    queries: int | None = None
    figure: str = ""
    note: str = ""
    missed: bool = False

    def judged(self) -> Row:
        """Return the row, with `missed` added if it breaks a limit."""
        slow = bool(self.limit) and self.median is not None and self.median > self.limit
        many = bool(self.most_queries) and (self.queries is None or self.queries > self.most_queries)
        return replace(self, missed=self.missed or slow or many)


def rows_for(made: dict[str, Any]) -> list[Row]:
    """Return every page and list that is requested over HTTP."""
    person, busy, reviewer, root = (
        session(made["sessions"][who]) for who in ("person", "busy", "reviewer", "superuser")
    )
    return [
        *_of_people(made, person, busy, reviewer),
        *_of_staff(made, root, reviewer),
        *_searches(root),
        *_of_clients(made),
    ]


def _of_people(
    made: dict[str, Any], person: dict[str, str], busy: dict[str, str], reviewer: dict[str, str]
) -> list[Row]:
    return [
        Row("catalogue", "/", person, LIST),
        Row("catalogue, of who reviews most models", "/", reviewer, LIST),
        Row("catalogue, of who asked for many", "/?page=2", busy, LIST),
        Row("/api/models", "/api/models", person, LIST),
        Row("/api/models, of who reviews most models", "/api/models", reviewer, LIST),
        Row("model page", f"/{made['repo']}", person),
        Row("access page", f"/{made['repo']}/access", person),
        Row("My requests", "/me/", person),
        Row("My requests, of who asked for many", "/me/", busy),
    ]


def _of_staff(made: dict[str, Any], root: dict[str, str], reviewer: dict[str, str]) -> list[Row]:
    queue, last = f"{ADMIN}/accessrequest/", min(100, max(1, made["requests"] // 50 - 2))
    return [
        Row("admin: gated models", f"{ADMIN}/gatedmodel/", root),
        Row("admin: gated models, of a reviewer", f"{ADMIN}/gatedmodel/", reviewer),
        Row("admin: one model", f"{ADMIN}/gatedmodel/{made['model']}/change/", root),
        Row("queue", queue, root),
        Row("queue, of who reviews most models", queue, reviewer),
        Row("queue, waiting", f"{queue}?state=waiting", root),
        Row("queue, one model", f"{queue}?model={quote(made['repo'])}", root),
        Row("queue, page 2", f"{queue}?p=2", root),
        Row(f"queue, page {last}", f"{queue}?p={last}", root),
        Row("request", f"{queue}{made['request']}/change/", root),
        Row("request, of a reviewer", f"{queue}{made['request']}/change/", reviewer),
        Row("event log", f"{ADMIN}/event/", root),
        Row("event log, one kind", f"{ADMIN}/event/?kind__exact=grant.created", root),
        Row("event log, of a reviewer", f"{ADMIN}/event/", reviewer),
        Row("downloads of one model", f"/{made['repo']}/downloads", reviewer),
        Row("admin: downloads", "/admin/model_ops/download/", root),
        Row("admin: downloads of one model", f"/admin/model_ops/download/?q={quote(made['repo'])}", root),
        Row("admin: people", "/admin/accounts/user/", root),
        Row("admin: one person", f"/admin/accounts/user/{made['user']}/change/", root, most_queries=PERSON_QUERIES),
        Row("admin: one person who asked for many", f"/admin/accounts/user/{made['busy']}/change/", root,
            most_queries=PERSON_QUERIES),
        Row("admin: grants", f"{ADMIN}/grant/", root),
        Row("admin: emails", f"{ADMIN}/outgoingmail/", root),
        Row("admin: emails that wait", f"{ADMIN}/outgoingmail/?state__exact=waiting", root),
        Row("admin: sessions", "/admin/usersessions/usersession/", root),
    ]  # fmt: skip


def _searches(root: dict[str, str]) -> list[Row]:
    words = {
        "queue": (f"{ADMIN}/accessrequest/", ("Lovelace", RARE, "王伟", "김민수", "Ad", NOTHING, COMMON)),
        "people": (
            "/admin/accounts/user/",
            ("Lovelace", "ada13", "王伟", "김민수", "Ad", NOTHING, "institute"),
        ),
        "events": (f"{ADMIN}/event/", ("model-0003", "ada13", "王伟", "li", NOTHING, "request")),
        "emails": (f"{ADMIN}/outgoingmail/", ("model-0003", "ada13", "ad", NOTHING, "approved")),
    }
    return [
        Row(f"search {where}: {word}", f"{path}?q={quote(word)}", root)
        for where, (path, found) in words.items()
        for word in found
    ]


def _of_clients(made: dict[str, Any]) -> list[Row]:
    reads, decides = bearer(made["tokens"]["person"]), bearer(made["tokens"]["reviewer"])
    large, small = (
        f"/{made['repo']}/resolve/{made['commit']}/{name}" for name in ("model.safetensors", "config.json")
    )
    lists = f"/api/models/{made['repo']}/user-access-request"
    return [
        Row("HEAD resolve", large, reads, 0, RESOLVE_QUERIES, "HEAD"),
        Row("GET resolve", small, reads, 0, RESOLVE_QUERIES),
        *(Row(f"Hub list {place}, first page", f"{lists}/{place}", decides, HUB) for place in PLACES),
    ]


def as_text(rows: list[Row]) -> str:
    """Return the table as it is printed."""
    head = ("what", "median", "max", "queries", "limit", "")
    lines = [head, *(_line(row) for row in rows)]
    widths = [max(_width(line[place]) for line in lines) for place in range(len(head))]

    def cell(place: int, text: str) -> str:
        blanks = " " * (widths[place] - _width(text))
        return text + blanks if not place else blanks + text if place < 5 else text

    return "\n".join("  ".join(cell(*each) for each in enumerate(line)).rstrip() for line in lines)


def _width(text: str) -> int:
    """Return the text's width in terminal columns; East Asian letters take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _line(row: Row) -> tuple[str, ...]:
    limits = [
        f"{row.limit:.0f} ms" if row.limit else "",
        f"{row.most_queries} queries" if row.most_queries else "",
    ]
    return (
        row.what,
        row.figure or _milliseconds(row.median),
        "" if row.figure else _milliseconds(row.longest),
        "" if row.queries is None else str(row.queries),
        ", ".join(filter(None, limits)),
        " ".join(filter(None, ["missed" if row.missed else "", row.note])),
    )


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms" if value < 10_000 else f"{value / 1000:.0f} s"
