"""The error pages. Django's own read the body of a POST first, so a broken body would turn into a 500."""

from __future__ import annotations

import sys

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import get_template

from portal import unavailable


class Unreadable(BadRequest):
    """A request that cannot be answered as it is; the text tells its sender why, and what to do."""


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400, with the sentence of an `Unreadable`."""
    sentence = str(exception) if isinstance(exception, Unreadable) else ""
    return render(request, "400.html", {"sentence": sentence}, status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403; the template says what the visitor can do."""
    return render(request, "403.html", {"exception": str(exception)}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 for an address that does not exist or that this visitor may not know about."""
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500, without a context, as nothing may fail here.

    A database that is down and a full disk get a different answer.
    """
    if answered := unavailable.answer(request, sys.exc_info()[1]):
        return answered
    return HttpResponse(get_template("500.html").render(), status=500)
