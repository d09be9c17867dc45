"""Split lists into pages that are linked by `Link: <...>; rel="next"`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from model_ops.hub.refusals import bad_request

T = TypeVar("T")
LONGEST_PAGE = 1000


def page_of(
    request: HttpRequest, items: Sequence[T] | QuerySet[Any, T], *, size: int = LONGEST_PAGE
) -> tuple[list[T], str]:
    """Return the requested page and the address of the next one, or "". Reads one row more than the page.

    The address is absolute, as clients need it, and on the origin that this client used: the portal may have
    several names, and a token is only sent where its owner sent it before.
    """
    start = _read_number(request, "cursor", 0, most=10**9)
    size = min(size, _read_number(request, "limit", size, most=10**9, least=1))
    following = start + size
    found = list(items[start : following + 1])
    if len(found) <= size:
        return found, ""
    query = request.GET.copy()
    query["cursor"] = str(following)
    return found[:size], request.build_absolute_uri(
        f"{request.get_full_path().partition('?')[0]}?{query.urlencode()}"
    )


def link(response: HttpResponseBase, following: str) -> None:
    if following:
        response["Link"] = f'<{following}>; rel="next"'


def _read_number(request: HttpRequest, name: str, default: int, *, most: int, least: int = 0) -> int:
    text = request.GET.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise bad_request(f"{name} must be a whole number from {least} on.")
    return int(text)
