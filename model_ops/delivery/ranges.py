"""Read `Range` as defined in RFC 9110, for single ranges; anything else asks for the whole file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.ASCII)
ENDLESS = 10**20  # larger than any file


class NotSatisfiable(Exception):
    """The range is outside the file."""


@dataclass(frozen=True)
class Span:
    """Bytes from `first` up to but not including `end`."""

    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.first


def asked_span(header: str, size: int) -> Span | None:
    """Return a single range, or None for the whole file: without a header, or for several or invalid ranges.

    Follows RFC 9110. Raises `NotSatisfiable` for a range that has no byte of the file.
    """
    match = RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return None
    first, last = (
        (int(digits) if len(digits) <= 20 else ENDLESS) if digits else None for digits in match.groups()
    )
    if first is None:
        span = Span(max(0, size - (last or 0)), size)
    elif last is not None and last < first:
        return None
    else:
        span = Span(first, size if last is None else min(last + 1, size))
    if span.length <= 0:
        raise NotSatisfiable
    return span


def span_of(request: HttpRequest, *, size: int, etag: str) -> Span | None:
    """Return the range that the request asks for; ignore `Range` if `If-Range` names other content."""
    condition = request.headers.get("If-Range", "")
    return asked_span(request.headers.get("Range", "") if condition in {"", f'"{etag}"'} else "", size)


def not_satisfiable(size: int) -> HttpResponse:
    """Return a 416 with the file's size, which clients that read to the end of a file expect."""
    sentence = f"The file has {size} bytes: the range asked for lies outside."
    response = HttpResponse(sentence, content_type="text/plain; charset=utf-8", status=416)
    response["X-Error-Code"] = "RangeNotSatisfiable"
    response["X-Error-Message"] = sentence
    response["Content-Range"] = f"bytes */{size}"
    return response
