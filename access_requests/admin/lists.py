"""Admin lists with millions of rows: the cost of a page does not depend on the size of the table.

Counts and page numbers end at `MOST`. The keys of a page are read from an index, and then the rows. A search
first looks through the beginning of the list, and uses the indexes only for terms that are rare there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import BooleanField, ExpressionWrapper, F, Func, OrderBy, Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from access_requests.search import AnyOf, by_index, is_indexed, is_partial, terms

MOST = 10_000  # rows that can be paged through, and that are counted
LOOKED_THROUGH = 3_000  # rows at the beginning of a list that a search reads first
ENOUGH = 150  # matches there: the term is too common for more to be useful
MOST_FOUND = 2_000  # further rows found by the indexes
MOST_MODELS = 50  # the most models whose rows are read separately
PARTIAL = "search_is_partial"  # an attribute of the request
NOT_ALL = gettext_noop("Too many rows match, so not all of them are shown. Add a word, or choose a filter.")


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """A paginator that counts at most `MOST` rows; `more` says whether there are more."""

    models: Sequence[int] = ()  # the models whose rows are read separately, each from its part of the index

    @cached_property
    def _counted_rows(self) -> int:
        given = cast("QuerySet[Any]", self.object_list)
        if len(self.models) < 2 or given.query.is_empty():
            return int(given.order_by().values("pk")[: MOST + 1].count())
        first, *others = [part.values("pk")[: MOST + 1] for part in apart(given, self.models)]
        return int(first.union(*others, all=True)[: MOST + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self._counted_rows, MOST)

    @property
    def more(self) -> bool:
        return self._counted_rows > MOST


class LongChangeList(ChangeList):
    """Django's list, but the keys of a page are read from an index in the list's own order."""

    model_admin: LongList
    more = False  # whether there are more rows than are counted

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Sort by a column only if the list is short enough."""
        rows = super().get_queryset(request, exclude_parameters)
        if self.params.get(ORDER_VAR) and self.model_admin.get_paginator(request, rows, 1).more:
            return rows.order_by(*self.model_admin.own_order(request))
        return rows

    def get_results(self, request: HttpRequest) -> None:
        """Read one page; for a number after the last page, read the last page."""
        paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        self.result_count, self.more = paginator.count, paginator.more
        self.page_num = min(max(self.page_num, 1), paginator.num_pages)
        self.can_show_all = not self.more and self.result_count <= self.list_max_show_all
        self.multi_page = self.result_count > self.list_per_page
        whole = self.can_show_all and self.show_all
        size = self.list_max_show_all if whole else self.list_per_page
        start = 0 if whole else (self.page_num - 1) * size
        keys = page_keys(self.queryset, self.model_admin.models_read_apart(request), start, start + size)
        found = {row.pk: row for row in self.queryset.order_by().filter(pk__in=keys)}
        self.result_list = [found[key] for key in keys if key in found]
        self.show_full_result_count, self.full_result_count = False, None
        self.show_admin_actions, self.paginator = True, paginator
        self.search_help_text = getattr(request, PARTIAL, self.search_help_text)


class OfModels(AnyOf):
    """The condition that a row's model is one that the reviewer decides for."""


def apart(rows: QuerySet[Any], models: Sequence[int]) -> list[QuerySet[Any]]:
    """Return one queryset per model, for an index that begins with the model; for one model, the rows as given.

    These leave out the condition `OfModels`, with which PostgreSQL would not read an index in order.
    """
    if len(models) < 2 or rows.query.is_empty():  # an empty part would drop the order of a union
        return [rows]
    freed = rows.all()
    where = freed.query.where
    where.children = [each for each in where.children if not isinstance(getattr(each, "lhs", None), OfModels)]
    return [freed.filter(model=each) for each in models]


def page_keys(rows: QuerySet[Any], models: Sequence[int], start: int, stop: int) -> list[Any]:
    """Return the keys of the rows from `start` to `stop`, in order.

    The rows of several `models` are read separately and merged, since no index has all of them in one order.
    """
    if len(models) < 2 or rows.query.is_empty():
        return list(rows.values_list("pk", flat=True)[start:stop])
    order = {f"order_{n}": term for n, term in enumerate(_order_of(rows))}
    columns = {name: expression for name, (expression, _down) in order.items()}
    parts = apart(rows.annotate(**columns), models)
    first, *others = [part.values_list("pk", *columns)[:stop] for part in parts]
    by = [OrderBy(F(name), descending=down) for name, (_expression, down) in order.items()]
    return [row[0] for row in first.union(*others, all=True).order_by(*by)[start:stop]]


class Sorted(Func):
    """The same value, hidden from the planner, so that it sorts a few rows instead of scanning a long index."""

    template = "(SELECT %(expressions)s)"


def _order_of(rows: QuerySet[Any]) -> list[tuple[Any, bool]]:
    """Return each expression of an order, up to the key, which decides, and whether it is descending."""
    given: list[Any] = list(rows.query.order_by)
    last = next((n for n, term in enumerate(given) if term in {"pk", "-pk"}), len(given))
    return [
        (term.expression, term.descending)
        if isinstance(term, OrderBy)
        else (F(term.removeprefix("-")), term.startswith("-"))
        for term in given[: last + 1]
    ]


def search_keys(
    rows: QuerySet[Any], models: Sequence[int], wanted: Q, *, indexed: bool
) -> tuple[Iterable[int], bool]:
    """Return the keys of rows that match `wanted`, and whether there may be more.

    Common terms are found at the beginning of the list, where they matter; rare ones by the indexes.
    """
    beginning = page_keys(rows, models, 0, LOOKED_THROUGH)
    seen = rows.order_by().filter(AnyOf(F("pk"), beginning))
    hit = ExpressionWrapper(
        wanted, output_field=BooleanField()
    )  # no condition: an index would return all rows
    found = {key for key, is_hit in seen.annotate(is_hit=hit).values_list("pk", "is_hit") if is_hit}
    if len(beginning) < LOOKED_THROUGH:
        return found, False
    if len(found) >= ENOUGH or not indexed:
        return found, True
    more = by_index(rows.filter(wanted), MOST_FOUND + 1)
    return found.union(more), len(more) > MOST_FOUND


class LongList(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that stays fast. `condition` says where the terms of a search are looked for."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each filter would count the table
    list_per_page = 50
    finds_signs = False  # whether terms without a letter or digit can use an index, too

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LongChangeList

    def own_order(self, request: HttpRequest) -> list[Any]:
        """Return the order that the list's indexes have; it ends with the key."""
        order = list(self.get_ordering(request) or self.opts.ordering or ())
        return order if order and order[-1] in {"pk", "-pk"} else [*order, "-pk"]

    def get_paginator(self, request: HttpRequest, *arguments: Any, **options: Any) -> CappedPaginator:
        paginator = cast("CappedPaginator", super().get_paginator(request, *arguments, **options))
        paginator.models = self.models_read_apart(request)
        return paginator

    def models_read_apart(self, request: HttpRequest) -> list[int]:
        """Return the models whose rows are read separately; none if the list is read as a whole."""
        return []

    def condition(self, term: str) -> Q | None:
        """Return the condition to be found by a term; None for a small table, to use Django's search."""
        return None

    def condition_for(self, request: HttpRequest, term: str) -> Q | None:
        """Return the condition for this visitor, since not everyone may search everything."""
        return self.condition(term)

    def wanted(self, request: HttpRequest, typed: list[str]) -> Q | None:
        """Return the condition that a row matches every term; None if Django's own search is to be used."""
        conditions = [c for term in typed if (c := self.condition_for(request, term)) is not None]
        return reduce(and_, conditions) if typed and len(conditions) == len(typed) else None

    def matching(self, request: HttpRequest, rows: QuerySet[Any], search_term: str) -> QuerySet[Any]:
        """Return every row that a search finds, for callers that read them in batches."""
        wanted = self.wanted(request, terms(search_term))
        if wanted is None:
            return rows
        if is_partial(wanted):
            setattr(request, PARTIAL, _(NOT_ALL))
        return rows.filter(wanted)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        typed = terms(search_term)
        wanted = self.wanted(request, typed)
        if wanted is None:
            return super().get_search_results(request, queryset, " ".join(typed))
        ordered = queryset.order_by(*self.own_order(request))
        indexed = self.finds_signs or all(map(is_indexed, typed))
        keys, partial = search_keys(ordered, self.models_read_apart(request), wanted, indexed=indexed)
        if partial or is_partial(wanted):
            setattr(request, PARTIAL, _(NOT_ALL))
        order = [OrderBy(Sorted(term), descending=down) for term, down in _order_of(queryset)]
        return queryset.filter(AnyOf(F("pk"), keys)).order_by(*order), False
