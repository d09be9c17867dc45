"""Filters that look up their choices in an index, a few rows per choice, however long the list is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db import connection
from django.db.models import Exists, Max, Min, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.access.catalogue import models_named
from access_requests.admin.base import seen_models
from access_requests.admin.lists import apart
from access_requests.models import AccessRequest, GatedModel

BY_KEY = "model__id__exact"  # Django's own parameter for a model, in links that people saved
MOST_LISTED = 50  # models listed next to a list, each as a link


def distinct_values(model: type[Any], column: str) -> list[str]:
    """Return the values that occur in an indexed column, with one index lookup each."""
    name = connection.ops.quote_name
    table, field = name(model._meta.db_table), name(column)
    query = f"""WITH RECURSIVE found(value) AS (
        (SELECT {field} FROM {table} WHERE {field} <> '' ORDER BY {field} LIMIT 1)
        UNION ALL SELECT (SELECT {field} FROM {table} WHERE {field} > found.value AND {field} <> '' ORDER BY {field} LIMIT 1)
        FROM found WHERE found.value IS NOT NULL)
        SELECT value FROM found WHERE value IS NOT NULL"""  # noqa: S608 - names of our own tables
    with connection.cursor() as cursor:
        cursor.execute(query)
        return [value for (value,) in cursor.fetchall()]


def countries_of(models: list[int]) -> list[str]:
    """Return the countries that occur in submitted requests for these models."""
    occurs = f"""SELECT code FROM unnest(%s::text[]) code WHERE EXISTS (SELECT FROM {AccessRequest._meta.db_table}
        WHERE model_id = ANY (%s::bigint[]) AND country = code AND first_submitted_at IS NOT NULL)"""  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(occurs, [distinct_values(AccessRequest, "country"), models])
        return [code for (code,) in cursor.fetchall()]


class ModelFilter(admin.SimpleListFilter):
    """Filter by the visitor's models that occur in the list; if there are many, by a typed id."""

    title = gettext_lazy("model")
    parameter_name = "model"
    template = "admin/model_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        models = GatedModel.objects.order_by("repo_id")
        if not request.user.is_superuser:
            models = models.filter(pk__in=seen_models(request))
        known = list(models.values_list("pk", flat=True)[: MOST_LISTED + 1])
        self.many = len(known) > MOST_LISTED
        if self.many:
            return []
        occurs = Exists(model_admin.model.objects.filter(model=OuterRef("pk")))
        shown = models.filter(occurs, pk__in=known).values_list("repo_id", flat=True)
        return [(repo_id, repo_id) for repo_id in shown]

    def has_output(self) -> bool:
        return self.many or bool(self.lookup_choices)

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # for our template
        """Yield what the template shows: the links, or first the other parameters for the field.

        A choice replaces a model that an old link names by its key.
        """
        everything = changelist.get_query_string(remove=[self.parameter_name, BY_KEY])
        if self.many:
            own = {"p", self.parameter_name, BY_KEY}
            others = {name: value for name, value in changelist.params.items() if name not in own}
            yield {"many": True, "value": self.value() or "", "others": others, "everything": everything}
            return
        # Django's links, without the parameter that would contradict them.
        by_key = BY_KEY in changelist.params
        yield {"selected": not (self.value() or by_key), "query_string": everything, "display": _("All")}
        for value, title in self.lookup_choices:
            address = changelist.get_query_string({self.parameter_name: value}, [BY_KEY])
            yield {"selected": self.value() == str(value), "query_string": address, "display": title}

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return rows
        found = models_named(str(self.value())).values_list("pk", flat=True).first()
        return rows.filter(model=found) if found else rows.none()


class DayFilter(admin.SimpleListFilter):
    """Filter by a year, month or day in UTC: `2026`, `2026-11` or `2026-11-30`. `field` has an index."""

    field = "at"
    title = gettext_lazy("day (UTC)")
    parameter_name = "day"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = str(self.value() or "")
        # The first and the last moment, from the two ends of an index (of each model's part, if several).
        rows, models = model_admin.get_queryset(request), model_admin.models_read_apart(request)
        ends = [
            part.order_by().aggregate(first=Min(self.field), last=Max(self.field))
            for part in apart(rows, models)
        ]
        ends = [each for each in ends if each["first"] is not None]
        if not ends:
            return []
        first, last = min(each["first"] for each in ends), max(each["last"] for each in ends)
        years = [f"{year:04}" for year in range(first.year, last.year + 1)]
        found = list(years)
        if chosen[:4] in years:
            found += [f"{chosen[:4]}-{number:02}" for number in range(1, 13)]
        if len(chosen) >= 7 and (month := _read_span(chosen[:7])):
            days = (month[1] - month[0]).days
            found += [f"{chosen[:7]}-{day:02}" for day in range(1, days + 1)]
        return [(value, value) for value in sorted(found)]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return rows
        span = _read_span(str(self.value()))
        if span is None:
            return rows.none()
        return rows.filter(**{f"{self.field}__gte": span[0], f"{self.field}__lt": span[1]})


def _read_span(text: str) -> tuple[datetime, datetime] | None:
    """Return the beginning and the end of a year, a month or a day; None for anything else."""
    try:
        year, *rest = (int(part) for part in text.split("-"))
        month, day = [*rest, 1, 1][:2]
        start = datetime(year, month, day, tzinfo=UTC)
        match len(rest):
            case 0:
                return start, start.replace(year=year + 1)
            case 1:
                return start, start.replace(year=year + rest[0] // 12, month=rest[0] % 12 + 1)
            case 2:
                return start, datetime.fromtimestamp(start.timestamp() + 86_400, UTC)
    except (ValueError, OverflowError):
        pass
    return None
