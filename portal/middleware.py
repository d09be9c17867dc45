"""The client's address, as far as it can be trusted; bodies that are refused unread; answers without a body."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from django.db import DatabaseError
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
    UnreadablePostError,
)
from django.http.response import HttpResponseBase

from access_requests.views.common import Renamed
from portal import proxies, refusing, unavailable
from portal.database import kinds, patience
from portal.door import STAFF_FORMS

log = logging.getLogger(__name__)

LARGEST_STAFF_FORM = 12 * 2**20  # bytes: a licence file of 8 MiB beside a card of 1 MiB


class PatienceMiddleware:
    """Says how long a request may wait for a connection to the database, and answers when a stream meets none.

    Before the view is known, and for pages, that is short; a view may name its own `patience`, in seconds.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        patience.begin(kinds.WEB.wait)
        try:
            response = self.get_response(request)
            if isinstance(response, StreamingHttpResponse) and not hasattr(response, "file_to_stream"):
                content = iter(response)
                # The first piece is made here: until then, an error can still become an answer.
                first = next(content, b"")
                response.streaming_content = _cut_without_database(itertools.chain([first], content))
        finally:
            patience.end()
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> None:
        if seconds := getattr(view, "patience", None):
            patience.begin(seconds)


def _cut_without_database(content: Iterator[bytes]) -> Iterator[bytes]:
    """Yield pieces; where the database is lost between two, cut the connection, by which a client knows that some are missing."""
    try:
        yield from content
    except DatabaseError as error:
        if (found := unavailable.found_in(error)) is None:
            raise
        log.warning("A stream was cut short, %s: %s", found.code, " ".join(str(error).split())[:300])
        raise ConnectionResetError(errno.ECONNRESET, "The database was lost on the way") from error


class ClientAddressMiddleware:
    """Sets `request.client_address`: the peer, or what a proxy named by `GATEHOUSE_PROXIES` says of it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        peer, forwarded = (request.META.get(key, "") for key in ("REMOTE_ADDR", proxies.FORWARDED_FOR))
        request.client_address = proxies.client_address(peer, forwarded)  # type: ignore[attr-defined]
        return self.get_response(request)


class BodyMiddleware:
    """Refuses large bodies and unwanted files before anything reads them, CSRF's check included.

    Listed before it. Large bodies are for views marked by `receiving.streams`, which look at who
    asks before they read, and for staff at `door.STAFF_FORMS`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        if getattr(view, "streams_body", False):
            return None
        text = request.META.get("CONTENT_LENGTH") or ""
        length = int(text) if text.isascii() and text.isdigit() else 0
        is_staff_form = re.match(STAFF_FORMS, request.path_info) is not None and request.user.is_staff
        if length > (LARGEST_STAFF_FORM if is_staff_form else refusing.LARGEST_BODY):
            return _refuse_request(request, refusing.STAFF_TOO_LARGE if is_staff_form else refusing.TOO_LARGE)
        is_form = request.content_type == "multipart/form-data" and not getattr(view, "csrf_exempt", False)
        with contextlib.suppress(UnreadablePostError):  # broke off; the next reader says so
            if is_form and not is_staff_form and request.FILES:
                return _refuse_request(request, refusing.NO_FILES)
        return None


def _refuse_request(request: HttpRequest, refusal: refusing.Refusal) -> HttpResponse:
    headers, body = refusal.answer(path=request.path_info)
    return HttpResponse(body, status=refusal.status, headers=dict(headers))


class NoBodyForHeadMiddleware:
    """Answers HEAD with the headers of GET alone, which servers otherwise do themselves, with a warning each time."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method == "HEAD" and not response.streaming and response.content:
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response


class FormerIdMiddleware:
    """Leads a page's former address (emails and bookmarks have it) to today's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, Renamed) and request.method in {"GET", "HEAD"}:
            return HttpResponseRedirect(exception.address_now(request))
        return None
