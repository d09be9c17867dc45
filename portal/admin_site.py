"""The admin's site, which answers 400 where Django would fail with a 5xx."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import FieldDoesNotExist, FieldError, ValidationError
from django.db import DataError, ProgrammingError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from psycopg import errors

from portal.errors import Unreadable

log = logging.getLogger(__name__)

View = Callable[..., HttpResponseBase]
# What Django and PostgreSQL raise for filters, ids and values that none of our pages writes.
NONSENSE = (
    IncorrectLookupParameters, FieldError, FieldDoesNotExist, ValidationError, DataError, ValueError, OverflowError,
)  # fmt: skip
# Lookups that Django knows, but for which this database has no function or type.
UNKNOWN_THERE = (
    errors.UndefinedFunction,
    errors.DatatypeMismatch,
    errors.CannotCoerce,
    errors.IndeterminateDatatype,
)
SENTENCE = _(
    "The address or the form names a filter, a number or a text that this page cannot use. "
    "Open the list again from the admin's first page and choose the filters there."
)


class AdminSite(admin.AdminSite):
    """An admin site that answers 400 with a sentence if a made-up filter, id or value makes Django fail."""

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # type: ignore[override]  # it wraps, as Django's own does
        """Guard each view, including its lazy rows and its template."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                response = view(request, *args, **kwargs)
                # Instead of naming the cause, Django blames the database, or redirects to the unfiltered
                # list.
                blames_database = getattr(response, "template_name", "") == "admin/invalid_setup.html"
                if blames_database or response.get("Location", "").endswith(f"?{ERROR_FLAG}=1"):
                    raise IncorrectLookupParameters
                if hasattr(response, "render"):
                    response.render()
            except (*NONSENSE, ProgrammingError) as error:
                if isinstance(error, ProgrammingError) and not isinstance(error.__cause__, UNKNOWN_THERE):
                    raise
                log.warning("%s %s was refused", request.method, request.path, exc_info=error)
                raise Unreadable(str(SENTENCE)) from error
            return response

        return super().admin_view(guarded, cacheable)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the start page, with a warning while the mail server is refusing emails."""
        from access_requests.admin.log import (
            say_what_waits,  # needs the models, which are loaded after this site
        )

        say_what_waits(request)
        return super().index(request, extra_context)
