"""Find the file at a URL with a query that is compiled once, since every download runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.db.models import QuerySet

from access_requests.access.compiled_query import SAMPLE_NUMBER, SAMPLE_TEXT, CompiledQuery, columns, instance
from model_ops.models import Blob, RepoFile, Revision

SAMPLE_NAME = "the sample of a name"


def find_file(*, model_id: int, name: str, path: str, is_commit: bool) -> tuple[RepoFile, bool] | None:
    """Return the file at a commit, branch or tag, and whether the name is a tag.

    The file has its revision and content. Includes held revisions. One query.
    """
    of_file, of_revision, of_blob, ask = _prepared_query(is_commit)
    rows = ask(model_id=model_id, name=name, path=path)
    if not rows:
        return None
    values = iter(rows[0])
    parts = [[next(values) for _ in names] for names in (of_file, of_revision, of_blob)]
    file: RepoFile = instance(RepoFile, of_file, parts[0])
    file.revision = instance(Revision, of_revision, parts[1])
    file.blob = instance(Blob, of_blob, parts[2])
    return file, any(values)


@cache
def _prepared_query(
    is_commit: bool,
) -> tuple[list[str], list[str], list[str], Callable[..., list[tuple[Any, ...]]]]:
    of_file = columns(RepoFile)
    of_revision = columns(Revision, but=["message"], prefix="revision__")
    of_blob = columns(Blob, prefix="blob__")
    by = "revision__commit" if is_commit else "revision__refs__name"
    tagged = [] if is_commit else ["revision__refs__is_tag"]

    def named(model_id: int, name: str, path: str) -> QuerySet[Any, Any]:
        rows = RepoFile.objects.filter(revision__model=model_id, path=path, **{by: name})
        return rows.order_by().values_list(*of_file, *of_revision, *of_blob, *tagged)

    prepared = CompiledQuery(named, model_id=SAMPLE_NUMBER, name=SAMPLE_NAME, path=SAMPLE_TEXT)
    return of_file, of_revision, of_blob, prepared
