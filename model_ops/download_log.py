"""The download log as it is read: whose rows, in what span of time, a page at a time, in sum and as a table for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q, QuerySet, Sum

from access_requests.models import GatedModel
from model_ops.models import Download

if TYPE_CHECKING:
    from portal.accounts.models import User

PER_PAGE = 50
AT_ONCE = 2000  # rows of a table that are in memory at once
FORMULA = ("=", "+", "-", "@", "\t", "\r")
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
    """`bytes_sent` counts what is known: bodies that were cut off or handed over are not in it."""

    bodies: int
    bytes_sent: int


def of_person(user: User) -> Rows:
    return Download.objects.filter(user=user)


def of_model(model: GatedModel) -> Rows:
    return Download.objects.filter(model=model)


def narrowed(
    rows: Rows, *, model: str = "", person: str = "", since: date | None = None, until: date | None = None
) -> Rows:
    """By a model's id, a person's name or address, and the days (UTC, both included) on which bodies began."""
    if model:
        rows = rows.filter(model__repo_id=model)
    if person:
        rows = rows.filter(Q(user__username__iexact=person) | Q(user__email__iexact=person))
    if since:
        rows = rows.filter(started_at__gte=_midnight(since))
    if until and until < date.max:  # behind the last day there is none
        rows = rows.filter(started_at__lt=_midnight(until) + timedelta(days=1))
    return rows


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def page_of(rows: Rows, *, before: str = "") -> Page:
    """The newest rows, or those before a page's end; by index, however many there are. Nonsense begins anew."""
    place = _place(before)
    if place:
        rows = rows.filter(started_at__lte=place[0]).exclude(started_at=place[0], pk__gte=place[1])
    ordered = rows.order_by("-started_at", "-pk").select_related("model", "user", "token")
    found = list(ordered.defer("model__card", "model__card_data")[: PER_PAGE + 1])
    last = found[PER_PAGE - 1] if len(found) > PER_PAGE else None
    return Page(found[:PER_PAGE], f"{last.started_at.isoformat()}~{last.pk}" if last else "")


def _place(text: str) -> tuple[datetime, int] | None:
    moment, _, number = text.partition("~")
    try:
        place = datetime.fromisoformat(moment), int(number)
    except ValueError:
        return None
    return place if place[0].tzinfo and 0 < place[1] < 2**63 else None


def totals(rows: Rows) -> Totals:
    found = rows.order_by().aggregate(bodies=Count("pk"), sent=Sum("bytes_sent"))
    return Totals(found["bodies"], found["sent"] or 0)


def as_csv(rows: Rows, *, people: bool) -> Iterator[str]:
    """Newest first, a header before them; read in portions, so that a million rows need no memory."""
    names = [name for name in COLUMNS if people or name not in PEOPLE]
    writer = csv.writer(_Echo())
    yield writer.writerow([HEADINGS.get(name, name) for name in names])
    found = rows.order_by("-started_at", "-pk").values_list(*names)
    for row in found.iterator(chunk_size=AT_ONCE):
        yield writer.writerow([_cell(value) for value in row])


class _Echo:
    """A file that hands back what is written, for `csv`."""

    def write(self, text: str) -> str:
        return text


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
