"""Migration operations that add indexes and checks to large tables while the portal keeps running."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
    RemoveIndexConcurrently,
)


def _is_valid(schema_editor: Any, name: str) -> bool | None:
    """Return whether PostgreSQL can use the index; None if it does not exist."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
            [schema_editor.quote_name(name)],
        )
        found = cursor.fetchone()
    return None if found is None else bool(found[0])


def _drop_index(schema_editor: Any, name: str) -> None:
    schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(name)}")


class AddIndex(AddIndexConcurrently):
    """An `AddIndexConcurrently` that can run again: PostgreSQL keeps an interrupted index but never uses it."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        valid = _is_valid(schema_editor, self.index.name)
        if valid:
            return
        if valid is False:
            _drop_index(schema_editor, self.index.name)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        _drop_index(schema_editor, self.index.name)


class RemoveIndex(RemoveIndexConcurrently):
    """A `RemoveIndexConcurrently` that can run again if the index is gone (backwards: is there)."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        _drop_index(schema_editor, self.name)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        valid = _is_valid(schema_editor, self.name)
        if valid:
            return
        if valid is False:
            _drop_index(schema_editor, self.name)
        super().database_backwards(app_label, schema_editor, from_state, to_state)


class AddCheck(AddConstraintNotValid):
    """An `AddConstraintNotValid` that can be run again if the constraint already exists."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_constraint WHERE conname = %s", [self.constraint.name])
            found = cursor.fetchone() is not None
        if not found:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
