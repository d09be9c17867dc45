"""Load rows into PostgreSQL with COPY as the owner: no triggers, indexes built afterwards, sequences set."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
from django.db import connection as django_connection
from django.db.models import Field, Model

PIECE = 2000  # rows in each write
BUILDERS = 2  # indexes built at once
# Columns that default to another column's value, if the model has them and the caller leaves them out.
SAME_AS = {"first_submitted_at": "submitted_at"}


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Return an autocommit connection as the owner, without triggers, foreign keys or timeouts."""
    opened = psycopg.connect(dsn, autocommit=True)
    for setting in (
        "session_replication_role = replica",
        "statement_timeout = 0",
        "lock_timeout = 0",
        "idle_in_transaction_session_timeout = 0",
        "maintenance_work_mem = '512MB'",
    ):
        opened.execute(f"SET {setting}")
    return opened


def cell(value: Any) -> str:
    """Return the value in COPY's text format; maps and lists as JSON."""
    if value is None:
        return "\\N"
    kind = value.__class__
    if kind is str:
        return _escaped(value)
    if kind is int:
        return str(value)
    if kind is bool:
        return "t" if value else "f"
    if kind is bytes or kind is memoryview:
        return "\\\\x" + bytes(value).hex()
    if kind is dict or kind is list:
        return _escaped(json.dumps(value))
    return _escaped(str(value))


def _escaped(text: str) -> str:
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


def columns_of(model: type[Model]) -> list[Field[Any, Any]]:
    """Return the fields that a row can set; the database fills the generated ones."""
    return [field for field in model._meta.concrete_fields if not getattr(field, "generated", False)]


def copy_rows(
    owner: psycopg.Connection[Any], model: type[Model], names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int:
    """Copy `rows`, with values for the columns in `names`; return how many. Others get their default."""
    table = model._meta.db_table
    given = list(names)
    others = [field for field in columns_of(model) if field.column not in given]
    twins = [
        (field.column, given.index(SAME_AS[field.column])) for field in others if _has_twin(field, given)
    ]
    rest = [field for field in others if not _has_twin(field, given) and not field.has_db_default()]
    end = "".join("\t" + cell(_default(field)) for field in rest) + "\n"
    places = [place for _, place in twins]
    quoted = ", ".join(
        f'"{name}"' for name in [*given, *(name for name, _ in twins), *(f.column for f in rest)]
    )
    count, todo = 0, iter(rows)
    with owner.cursor() as cursor, cursor.copy(f"COPY {table} ({quoted}) FROM STDIN") as copy:
        while piece := list(islice(todo, PIECE)):
            if places:
                piece = [(*row, *(row[place] for place in places)) for row in piece]
            copy.write("".join(["\t".join(map(cell, row)) + end for row in piece]))
            count += len(piece)
    return count


def _has_twin(field: Field[Any, Any], given: list[str]) -> bool:
    return SAME_AS.get(field.column) in given


def _default(field: Field[Any, Any]) -> Any:
    """Return what Django would store in a new row."""
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return "now"
    return plain(field, field.get_default())


def plain(field: Field[Any, Any], value: Any) -> Any:
    """Return a value of this field in a form that `cell` accepts."""
    if field.get_internal_type() == "JSONField" or value is None:
        return value
    if field.get_internal_type() == "BinaryField":
        return bytes(value)
    ready = field.get_db_prep_save(value, django_connection)
    return ready if isinstance(ready, str | int | float | bool) or ready is None else str(ready)


def copies_of(row: Model, changes: Iterable[dict[str, Any]]) -> tuple[list[str], Iterator[list[Any]]]:
    """Return the columns of a saved row and, for each map of changes by column, a changed copy of it."""
    fields = columns_of(type(row))
    names = [field.column for field in fields]
    values = [plain(field, getattr(row, field.attname)) for field in fields]
    made = (
        [change.get(name, value) for name, value in zip(names, values, strict=True)] for change in changes
    )
    return names, made


@contextmanager
def without_indexes(dsn: str, tables: Iterable[str]) -> Iterator[None]:
    """Drop all indexes that are not constraints during the block, then rebuild them, two at once."""
    with connect(dsn) as owner:
        found = owner.execute(
            "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = ANY(%s) AND NOT EXISTS"
            " (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)",
            [list(tables)],
        ).fetchall()
        for name, _ in found:
            owner.execute(f"DROP INDEX {name}")
    yield
    at_once(dsn, [definition for _, definition in found])


def at_once(dsn: str, statements: list[str]) -> None:
    """Run statements on `BUILDERS` connections; raise the first error once all have ended."""
    todo, failed = list(reversed(statements)), []

    def build() -> None:
        try:
            with connect(dsn) as owner:
                while todo:
                    owner.execute(todo.pop())
        except (psycopg.Error, IndexError) as error:
            failed.append(error)

    builders = [threading.Thread(target=build) for _ in range(BUILDERS)]
    for one in builders:
        one.start()
    for one in builders:
        one.join()
    if failed:
        raise failed[0]


def next_id(owner: psycopg.Connection[Any], model: type[Model]) -> int:
    """Return the first free number of a table's primary key."""
    primary = model._meta.pk
    assert primary is not None
    row = owner.execute(
        f'SELECT coalesce(max("{primary.column}"), 0) + 1 FROM {model._meta.db_table}'
    ).fetchone()
    assert row is not None
    return int(row[0])


def set_sequences(owner: psycopg.Connection[Any], models: Iterable[type[Model]]) -> None:
    """Set each table's sequence to continue after its last row."""
    for model in models:
        primary = model._meta.pk
        assert primary is not None
        table, column = model._meta.db_table, primary.column
        (name,) = owner.execute("SELECT pg_get_serial_sequence(%s, %s)", [table, column]).fetchone() or (
            None,
        )
        if name:
            owner.execute(
                f'SELECT setval(%s, (SELECT coalesce(max("{column}"), 1) FROM {table}), true)', [name]
            )
