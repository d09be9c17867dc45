"""Queries that every request asks: built and compiled once, then asked with new values.

Building a query with many parts costs the ORM milliseconds of CPU, asking it a tenth of one. What is compiled is
the ORM's own SQL, so that a query is still written once, as a queryset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model, QuerySet

# Stand-ins while compiling: nothing else in a query has these values. The number needs a column of 64 bits.
SAMPLE_NUMBER = 2**62 - 57
SAMPLE_TEXT = "the sample of a text"
SAMPLE_MOMENT = datetime(1066, 10, 14, 9, 30, tzinfo=UTC)


class Prepared:
    """`build` makes a queryset of `values_list`, with named values given as samples; called, it answers with its rows."""

    def __init__(self, build: Callable[..., QuerySet[Any, Any]], **samples: Any) -> None:
        self._build, self._samples = build, samples

    @cached_property
    def _compiled(self) -> tuple[str, list[tuple[str | None, Any]], dict[int, Any]]:
        """The SQL; for each of its places the value's name, or None and the value itself; converters by column."""
        compiler = self._build(**self._samples).query.get_compiler(DEFAULT_DB_ALIAS)
        sql, values = compiler.as_sql()
        places = [(self._name_of(value), value) for value in values]
        missing = set(self._samples) - {name for name, _ in places}
        if missing:
            raise ValueError(f"the query does not use {', '.join(sorted(missing))}")
        return sql, places, compiler.get_converters([column[0] for column in compiler.select])

    def _name_of(self, value: Any) -> str | None:
        return next((name for name, sample in self._samples.items() if value == sample), None)

    def __call__(self, **values: Any) -> list[tuple[Any, ...]]:
        sql, places, converters = self._compiled
        given = [sample if name is None else _alike(sample, values[name]) for name, sample in places]
        with connection.cursor() as cursor:
            cursor.execute(sql, given)
            rows = cursor.fetchall()
        return [_converted(row, converters) for row in rows] if converters else rows


def _alike(sample: Any, value: Any) -> Any:
    """Numbers are wrapped for the driver as the sample's was."""
    return type(sample)(value) if isinstance(sample, int) else value


def _converted(row: Sequence[Any], converters: dict[int, Any]) -> tuple[Any, ...]:
    made = list(row)
    for column, (functions, expression) in converters.items():
        for function in functions:
            made[column] = function(made[column], expression, connection)
    return tuple(made)


def columns(model: type[Model], *, but: Sequence[str] = (), prefix: str = "") -> list[str]:
    """The model's own columns, as `values_list` takes them."""
    return [prefix + field.attname for field in model._meta.concrete_fields if field.name not in but]


def instance(model: Any, names: Sequence[str], values: Sequence[Any]) -> Any:
    """An object of these columns; the others are read when they are asked for."""
    return model.from_db(DEFAULT_DB_ALIAS, [name.rpartition("__")[2] for name in names], values)
