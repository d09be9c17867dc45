"""The admin's site: whatever is asked of any of its pages, the answer is no 5xx."""

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
# What Django and PostgreSQL make of filters, ids and values that no page of ours writes.
NONSENSE = (
    IncorrectLookupParameters, FieldError, FieldDoesNotExist, ValidationError, DataError, ValueError, OverflowError,
)  # fmt: skip
# Lookups that Django knows and this database has no function or type for.
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
    """Answers 400 with a sentence where Django lets the error of a made-up filter, id or value through."""

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # type: ignore[override]  # it wraps, as Django's own does
        """Guard each view, its lazy rows and its template included."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                response = view(request, *args, **kwargs)
                # Instead of saying why, Django blames the database, or leads to the list without any filter.
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
        """Show the start page, with a warning while the mail server takes no emails."""
        from access_requests.admin.log import (
            say_what_waits,  # needs the models, which are loaded after this site
        )

        say_what_waits(request)
        return super().index(request, extra_context)
