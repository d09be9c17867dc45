"""Read the download log: the rows of a person or model in a time span, by page, as totals, and as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Count, F, Func, Q, QuerySet, Sum, TextField
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

from access_requests.access.catalogue import models_named
from access_requests.models import GatedModel
from model_ops.models import Download

if TYPE_CHECKING:
    from portal.accounts.models import User

PER_PAGE = 50
MOST_SUMMED = 10_000  # rows counted and summed for a page
AT_ONCE = 10_000  # rows of a table in memory at once, read by one statement
TEXTS = frozenset(
    {"model__repo_id", "user__username", "user__email", "path", "client", "token__name", "request_id"}
)
PEOPLE = ("user__username", "user__email")
COLUMNS = (
    "started_at", "model__repo_id", *PEOPLE, "path", "commit", "first_byte", "bytes_asked", "bytes_sent", "seconds",
    "status", "state", "mode", "link_seconds", "address", "client", "grant_id", "token__name", "request_id",
)  # fmt: skip
HEADINGS = {
    "model__repo_id": "model",
    "user__username": "person",
    "user__email": "email",
    "grant_id": "grant",
    "token__name": "token",
}
Rows = QuerySet[Download]


@dataclass(frozen=True)
class Page:
    """One page of rows; `following` is where the next page begins, empty on the last one."""

    rows: list[Download]
    following: str


@dataclass(frozen=True)
class Totals:
    """Totals of the newest `MOST_SUMMED` rows; `more` is set if there are older ones.

    `bytes_sent` only counts known sizes: bodies that were cut off or handed over are not included.
    """

    bodies: int
    bytes_sent: int
    more: bool = False


def of_person(user: User) -> Rows:
    return Download.objects.filter(user=user)


def of_model(model: GatedModel) -> Rows:
    return Download.objects.filter(model=model)


def narrowed(
    rows: Rows, *, model: str = "", person: str = "", since: date | None = None, until: date | None = None
) -> Rows:
    """Filter by a model's id, a person's name or address, and the days (UTC, inclusive) when bodies began."""
    if model:
        rows = rows.filter(model__in=list(models_named(model).values_list("pk", flat=True)))
    if person:
        # The keys of people with this user name or address, compared as in the unique indexes.
        name, email = Exact(Lower("username"), person.lower()), Exact(Lower("email"), person.lower())
        people = get_user_model().objects.filter(Q(name) | Q(email, ~Q(email="")))
        rows = rows.filter(user__in=list(people.values_list("pk", flat=True)))
    if since:
        rows = rows.filter(started_at__gte=_day_start(since))
    if until and until < date.max:  # there is no day after the last one
        rows = rows.filter(started_at__lt=_day_start(until) + timedelta(days=1))
    return rows


def _day_start(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def page_of(rows: Rows, *, before: str = "") -> Page:
    """Return the newest rows, or those after the page that ended at `before`; an invalid value starts again.

    Reads by index, however many rows there are.
    """
    moment, _, number = before.partition("~")
    try:
        at, key = datetime.fromisoformat(moment), int(number)
    except ValueError:
        pass
    else:
        if at.tzinfo and 0 < key < 2**63:
            rows = _rows_behind(rows, at, key)
    ordered = rows.order_by("-started_at", "-pk").select_related("model", "user", "token")
    found = list(ordered.defer("model__card", "model__card_data")[: PER_PAGE + 1])
    last = found[PER_PAGE - 1] if len(found) > PER_PAGE else None
    return Page(found[:PER_PAGE], f"{last.started_at.isoformat()}~{last.pk}" if last else "")


def _rows_behind(rows: Rows, moment: datetime, key: int) -> Rows:
    """Return the rows after this one in the log's order (newest first); the index scan starts there."""
    return rows.filter(started_at__lte=moment).exclude(started_at=moment, pk__gte=key)


def totals(rows: Rows) -> Totals:
    """Return the number of bodies and the bytes sent, read from the index only."""
    newest = rows.order_by("-started_at", "-pk").values("pk", "bytes_sent")
    found = newest[:MOST_SUMMED].aggregate(bodies=Count("pk"), sent=Sum("bytes_sent"))
    more = found["bodies"] == MOST_SUMMED and newest[MOST_SUMMED : MOST_SUMMED + 1].exists()
    return Totals(found["bodies"], found["sent"] or 0, more)


def as_csv(rows: Rows, *, people: bool) -> Iterator[str]:
    """Yield the rows as CSV, newest first, with a header line, many lines at a time.

    Each portion is a separate short statement that begins where the last one ended: millions of rows need no
    memory, and no statement runs into a timeout. A portion ends at a given row, not after a number of rows,
    so that new rows push none out of it. A slow reader holds no connection.
    """
    names = [name for name in COLUMNS if people or name not in PEOPLE]
    _let_go()
    yield ",".join(HEADINGS.get(name, name) for name in names) + "\n"
    rest = ordered = rows.order_by("-started_at", "-pk")
    while True:
        last = rest.values_list("started_at", "pk")[AT_ONCE - 1 : AT_ONCE].first()
        portion = rest
        if last is not None:  # down to and including the last row
            portion = rest.filter(started_at__gte=last[0]).exclude(started_at=last[0], pk__lt=last[1])
        lines = _copy_lines(portion, names)
        _let_go()
        if lines:
            yield lines
        if last is None:
            return
        rest = _rows_behind(ordered, *last)


def _let_go() -> None:
    """Return the connection to the pool; the next statement takes one again."""
    if not connection.in_atomic_block:
        connection.close()


def _copy_lines(rows: Rows, names: list[str]) -> str:
    """Return the rows as CSV written by PostgreSQL, which is several times as fast as Python.

    Times are in UTC, and no text looks like a formula to a spreadsheet.
    """
    kinds: dict[str, Any] = {"started_at": Moment} | dict.fromkeys(TEXTS, Harmless)
    cells = {f"cell_{n}": kinds.get(name, F)(name) for n, name in enumerate(names)}
    try:
        sql, values = rows.annotate(**cells).values_list(*cells).query.sql_with_params()
    except EmptyResultSet:  # a filter that no row can match
        return ""
    command = f"COPY ({sql}) TO STDOUT (FORMAT csv)"
    with connection.cursor() as wrapped, wrapped.cursor.copy(command, values) as portion:
        written = b"".join(bytes(block) for block in portion)
    return written.decode()


class Moment(Func):
    template = "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"+00:00\"')"
    output_field = TextField()


class Harmless(Func):
    """The text, prefixed with an apostrophe if a spreadsheet would read it as a formula; null if empty."""

    template = r"regexp_replace(NULLIF(%(expressions)s, ''), '^(?=[-=+@\t\r])', '''')"
    output_field = TextField()
