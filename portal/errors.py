"""The pages of errors. Django's own read the body of a POST first, for its CSRF token, which a broken body turns into a 500."""

from __future__ import annotations

import sys

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import get_template

from portal import unavailable


class Unreadable(BadRequest):
    """A request that cannot be answered as it is; the text says why, and what to do, to its sender."""


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400, with the sentence of an `Unreadable`."""
    sentence = str(exception) if isinstance(exception, Unreadable) else ""
    return render(request, "400.html", {"sentence": sentence}, status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403; the template says what one may do."""
    return render(request, "403.html", {"exception": str(exception)}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404, for an address that leads nowhere or to what this visitor may not know of."""
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500; without context, as nothing may fail here. A database that is away, and a full disk, are another answer."""
    if answered := unavailable.answer(request, sys.exc_info()[1]):
        return answered
    return HttpResponse(get_template("500.html").render(), status=500)
