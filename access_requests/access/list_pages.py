"""Read the Hub's four lists of a model page by page, for models of any size.

`ListPlace` proposes who is on a page; `review_lists.place_of` decides, from those people's newest request and
grant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.utils import timezone

from access_requests.access.review_lists import ReviewEntry, order, review_entries
from access_requests.enums import Place
from access_requests.models import GatedModel, ListPlace

Key = tuple[datetime, int]  # when they asked, and who: as in `review_lists.order`
AT_ONCE = 1000
MOST_ENDED = 1000  # people per page whose access ended without a task noticing yet


@dataclass(frozen=True)
class Wanted:
    """A filter for a list: `name` is the start of the user name; the dates (exclusive) bound the date of asking."""

    name: str = ""
    after: datetime | None = None
    before: datetime | None = None

    def among(self, places: QuerySet[ListPlace]) -> QuerySet[ListPlace]:
        """Return the rows of people whose name matches; the caller checks the dates."""
        if not self.name:
            return places
        people = get_user_model().objects.alias(lower=Lower("username"))
        return places.filter(person__in=people.filter(lower__startswith=self.name.lower()).values("pk"))

    def fits(self, entry: ReviewEntry) -> bool:
        """Return whether the request was made between the dates."""
        at = order(entry)[0]
        return (self.after is None or at > self.after) and (self.before is None or at < self.before)


def page_of(
    model: GatedModel, place: Place, wanted: Wanted = Wanted(), *, behind: Key | None = None, most: int
) -> list[ReviewEntry]:
    """Return the first entries of a list, the longest waiting first, or the first entries after a key."""
    ended = list[ReviewEntry]()
    if place != Place.ACCEPTED:
        # Access that has ended since a task looked (every minute) still counts as accepted: find its people here. If there
        # are more than the task had time for, the first to end.
        over = model.grants.filter(closed_at=None, ends_at__lte=timezone.now()).order_by("ends_at", "pk")
        rows = wanted.among(
            ListPlace.objects.filter(model=model, person__in=over.values("user")[:MOST_ENDED])
        )
        looked_at = review_entries(model, rows.values_list("person", flat=True))
        fitting = [entry for entry in looked_at if entry.place == place and wanted.fits(entry)]
        ended = [entry for entry in fitting if behind is None or order(entry) > behind]
    found, last = list[ReviewEntry](), behind
    while len(found) < most:
        keys = _first_keys(model, place, wanted, last, most)
        entries = {one.person_id: one for one in review_entries(model, [person for _, person in keys])}
        at_keys = (entries.get(person) for _, person in keys)
        found += [entry for entry in at_keys if entry and entry.place == place]
        if len(keys) < most:
            break
        last = keys[-1]
    people = {
        entry.person_id: entry for entry in [*ended, *found]
    }  # a task may notice an end between the two
    return sorted(people.values(), key=order)[:most]


def everybody(model: GatedModel) -> Iterator[ReviewEntry]:
    """Yield the entries of all lists in one order, page by page; a person who moves meanwhile appears once."""
    seen = set[int]()
    for entry in merge(*(_pages_of_list(model, place) for place in Place), key=order):
        if entry.person_id not in seen:
            seen.add(entry.person_id)
            yield entry


def _pages_of_list(model: GatedModel, place: Place) -> Iterator[ReviewEntry]:
    page = page_of(model, place, most=AT_ONCE)
    while page:
        yield from page
        page = page_of(model, place, behind=order(page[-1]), most=AT_ONCE) if len(page) == AT_ONCE else []


def _first_keys(model: GatedModel, place: Place, wanted: Wanted, behind: Key | None, most: int) -> list[Key]:
    """Return the first keys of a list, read from an index."""
    rows = wanted.among(ListPlace.objects.filter(model=model, place=place))
    if behind is not None:
        passed = Q(asked_at=behind[0], person__lte=behind[1])
        rows = rows.filter(~passed, asked_at__gte=behind[0])
    if wanted.after is not None:
        rows = rows.filter(asked_at__gt=wanted.after)
    if wanted.before is not None:
        rows = rows.filter(asked_at__lt=wanted.before)
    keys = rows.order_by("asked_at", "person").values_list("asked_at", "person")[:most]
    return [(at, person) for at, person in keys if at is not None]  # every place in a list has a date
