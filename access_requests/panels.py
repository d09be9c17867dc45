"""Let other rooms add panels to the pages of a request, a model or a grant.

They register functions when the site starts, so that nothing here imports them. A function returns safe HTML
(a section with its own heading), or "" if it has nothing to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from django.http import HttpRequest
from django.utils.safestring import SafeString, mark_safe

from access_requests.models import AccessRequest, GatedModel

Subject = TypeVar("Subject", AccessRequest, GatedModel)

REQUEST_PANELS: list[
    Callable[[AccessRequest, HttpRequest], str]
] = []  # the page on which a reviewer decides one request
MODEL_PANELS: list[Callable[[GatedModel, HttpRequest], str]] = []  # the model's page, for every visitor
ACCESS_PANELS: list[
    Callable[[GatedModel, HttpRequest], str]
] = []  # the download page of a person with a grant


def show_panels(
    panels: Iterable[Callable[[Subject, HttpRequest], str]], subject: Subject, http_request: HttpRequest
) -> SafeString:
    """Return the HTML of all these panels, in the order in which they were registered."""
    return mark_safe("\n".join(filter(None, (panel(subject, http_request) for panel in panels))))  # noqa: S308 - SafeString by contract
