"""The download log as it is read: whose rows, in what span of time, a page at a time, in sum and as a table for spreadsheets."""

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
MOST_SUMMED = 10_000  # rows that are counted and summed for a page
AT_ONCE = 10_000  # rows of a table that are in memory at once, and that one statement reads
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
    """`following` is the place where the next page begins, empty on the last."""

    rows: list[Download]
    following: str


@dataclass(frozen=True)
class Totals:
    """Of the newest `MOST_SUMMED` rows; `more` says that there are older ones.

    `bytes_sent` counts what is known: bodies that were cut off or handed over are not in it.
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
    """By a model's id, a person's name or address, and the days (UTC, both included) on which bodies began."""
    if model:
        rows = rows.filter(model__in=list(models_named(model).values_list("pk", flat=True)))
    if person:
        # The keys of those who have this user name or address, as the unique indexes have them.
        name, email = Exact(Lower("username"), person.lower()), Exact(Lower("email"), person.lower())
        people = get_user_model().objects.filter(Q(name) | Q(email, ~Q(email="")))
        rows = rows.filter(user__in=list(people.values_list("pk", flat=True)))
    if since:
        rows = rows.filter(started_at__gte=_day_start(since))
    if until and until < date.max:  # behind the last day there is none
        rows = rows.filter(started_at__lt=_day_start(until) + timedelta(days=1))
    return rows


def _day_start(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def page_of(rows: Rows, *, before: str = "") -> Page:
    """The newest rows, or those before a page's end; by index, however many there are. Nonsense begins again."""
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
    """Return the rows that follow one in the log's order, the newest first; the index begins there."""
    return rows.filter(started_at__lte=moment).exclude(started_at=moment, pk__gte=key)


def totals(rows: Rows) -> Totals:
    """Return how many bodies there are and what was sent with them, read from the index alone."""
    newest = rows.order_by("-started_at", "-pk").values("pk", "bytes_sent")
    found = newest[:MOST_SUMMED].aggregate(bodies=Count("pk"), sent=Sum("bytes_sent"))
    more = found["bodies"] == MOST_SUMMED and newest[MOST_SUMMED : MOST_SUMMED + 1].exists()
    return Totals(found["bodies"], found["sent"] or 0, more)


def as_csv(rows: Rows, *, people: bool) -> Iterator[str]:
    """Newest first, a header before them, many lines at a time.

    Each portion is a short statement of its own that begins where the last one ended: millions of rows need no memory,
    and no statement runs long enough to be ended by a timeout. A portion ends at a row, not at a number of rows: what is
    written meanwhile pushes none out of it. A slow reader holds no connection.
    """
    names = [name for name in COLUMNS if people or name not in PEOPLE]
    _let_go()
    yield ",".join(HEADINGS.get(name, name) for name in names) + "\n"
    rest = ordered = rows.order_by("-started_at", "-pk")
    while True:
        last = rest.values_list("started_at", "pk")[AT_ONCE - 1 : AT_ONCE].first()
        portion = rest
        if last is not None:  # down to the last row, that one included
            portion = rest.filter(started_at__gte=last[0]).exclude(started_at=last[0], pk__lt=last[1])
        lines = _copy_lines(portion, names)
        _let_go()
        if lines:
            yield lines
        if last is None:
            return
        rest = _rows_behind(ordered, *last)


def _let_go() -> None:
    """Give the connection back to the pool; the next statement takes one again."""
    if not connection.in_atomic_block:
        connection.close()


def _copy_lines(rows: Rows, names: list[str]) -> str:
    """Return the rows as PostgreSQL writes them, several times as fast as Python does.

    Moments are in UTC, and no text is one that a spreadsheet would take for a formula.
    """
    kinds: dict[str, Any] = {"started_at": Moment} | dict.fromkeys(TEXTS, Harmless)
    cells = {f"cell_{n}": kinds.get(name, F)(name) for n, name in enumerate(names)}
    try:
        sql, values = rows.annotate(**cells).values_list(*cells).query.sql_with_params()
    except EmptyResultSet:  # a filter that no row can pass
        return ""
    command = f"COPY ({sql}) TO STDOUT (FORMAT csv)"
    with connection.cursor() as wrapped, wrapped.cursor.copy(command, values) as portion:
        written = b"".join(bytes(block) for block in portion)
    return written.decode()


class Moment(Func):
    template = "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"+00:00\"')"
    output_field = TextField()


class Harmless(Func):
    """A text that begins with an apostrophe if a spreadsheet would take it for a formula; null if it is empty."""

    template = r"regexp_replace(NULLIF(%(expressions)s, ''), '^(?=[-=+@\t\r])', '''')"
    output_field = TextField()
