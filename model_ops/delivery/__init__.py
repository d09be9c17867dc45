"""Deliver files in one of three ways, chosen by `GATEHOUSE_DELIVERY`.

Every body is recorded in the download log before its first byte. HEAD is always answered here.

headers  the type and file name in the response
nginx    nginx in front of the portal sends the file: we answer with its path (`X-Accel-Redirect`)
own      this process answers range requests and the kernel sends the file
ranges   `Range` as defined in RFC 9110, for single ranges
s3       the client is redirected to a signed link to a bucket
ticket   who gets the bytes, with which right, and what the download log records
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from model_ops.delivery import nginx, own, s3
from model_ops.delivery.headers import content_type, disposition
from model_ops.delivery.ranges import NotSatisfiable, Span, asked_span, not_satisfiable, span_of
from model_ops.delivery.ticket import RETRY_AFTER, Busy, Damaged, Ticket, whole_blob
from model_ops.models import RepoFile

__all__ = [
    "RETRY_AFTER",
    "Busy",
    "Damaged",
    "NotSatisfiable",
    "Span",
    "Ticket",
    "asked_span",
    "serve",
]

Way = Callable[..., HttpResponseBase]


def serve(request: HttpRequest, file: RepoFile, *, ticket: Ticket) -> HttpResponseBase:
    """Return the file, the part of it that `Range` asks for, or a redirect to it; for HEAD only the headers.

    Raises `Damaged` or `Busy` before anything is sent.
    """
    if s3.has(file) and (handed_over := s3.answer(request, file, ticket=ticket)):
        return handed_over
    if request.method == "HEAD":
        whole_blob(file)
        response = HttpResponse()
        response["Content-Length"] = str(file.blob.size)
        return _add_file_headers(response, file)
    try:
        span = span_of(request, size=file.blob.size, etag=file.etag)
    except NotSatisfiable:
        whole_blob(file)
        return not_satisfiable(file.blob.size)
    way: Way = nginx.answer if nginx.is_in_front(request) else own.answer
    return _add_file_headers(way(request, file, ticket=ticket, span=span), file)


def _add_file_headers(response: HttpResponseBase, file: RepoFile) -> HttpResponseBase:
    response["Content-Type"] = content_type(file.path)
    response["Content-Disposition"] = disposition(file.path)
    return response
