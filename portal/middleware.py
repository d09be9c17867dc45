"""The client's address as far as it can be trusted, bodies refused unread, and answers without a body."""

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

LARGEST_STAFF_FORM = 12 * 2**20  # bytes: a licence file of 8 MiB and a card of 1 MiB


class PatienceMiddleware:
    """A middleware that limits how long a request may wait for a database connection.

    It also answers if a stream gets none. The time is short before the view is known, and for pages; a view
    may set its own `patience`, in seconds.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        patience.begin(kinds.WEB.wait)
        try:
            response = self.get_response(request)
            if isinstance(response, StreamingHttpResponse) and not hasattr(response, "file_to_stream"):
                content = iter(response)
                # The first piece is made here, while an error can still become an answer.
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
    """Yield the pieces; if the database is lost in between, cut the connection so that the client notices."""
    try:
        yield from content
    except DatabaseError as error:
        if (found := unavailable.found_in(error)) is None:
            raise
        log.warning("A stream was cut short, %s: %s", found.code, " ".join(str(error).split())[:300])
        raise ConnectionResetError(errno.ECONNRESET, "The database was lost on the way") from error


class ClientAddressMiddleware:
    """A middleware that sets `request.client_address`.

    The address is the peer's, or the one named by a proxy in `GATEHOUSE_PROXIES`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        peer, forwarded = (request.META.get(key, "") for key in ("REMOTE_ADDR", proxies.FORWARDED_FOR))
        request.client_address = proxies.client_address(peer, forwarded)  # type: ignore[attr-defined]
        return self.get_response(request)


class BodyMiddleware:
    """A middleware that refuses large bodies and unwanted files before anything reads them.

    It must be listed before the CSRF check, which reads bodies. Large bodies are only for views marked by
    `receiving.streams`, which check who is asking before they read, and for staff at `door.STAFF_FORMS`.
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
        with contextlib.suppress(UnreadablePostError):  # broke off; the next reader reports it
            if is_form and not is_staff_form and request.FILES:
                return _refuse_request(request, refusing.NO_FILES)
        return None


def _refuse_request(request: HttpRequest, refusal: refusing.Refusal) -> HttpResponse:
    headers, body = refusal.answer(path=request.path_info)
    return HttpResponse(body, status=refusal.status, headers=dict(headers))


class NoBodyForHeadMiddleware:
    """A middleware that answers HEAD with the headers of GET only.

    Servers would do so themselves, but log a warning each time.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method == "HEAD" and not response.streaming and response.content:
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response


class FormerIdMiddleware:
    """A middleware that redirects a page's former address, from emails and bookmarks, to the current one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, Renamed) and request.method in {"GET", "HEAD"}:
            return HttpResponseRedirect(exception.address_now(request))
        return None
