"""The download log in the admin: read-only, can be saved as CSV, and fast even with a million rows."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from access_requests.admin.base import ReadOnlyAdmin
from access_requests.admin.lists import MOST, PARTIAL
from access_requests.search import AnyOf, models_like, of_people, people_like
from model_ops.download_log import as_csv
from model_ops.models import Download

WHOLE = "whole_table"  # attribute of a request that wants every row


@admin.register(Download)
class DownloadAdmin(ReadOnlyAdmin):
    list_display = [
        "started_at",
        "model",
        "path",
        "user",
        "bytes_sent",
        "state",
        "mode",
        "address",
    ]
    list_filter = ["state", "mode", "started_at"]
    search_fields = ["request_id"]  # shows the search field; `condition` does the searching
    search_help_text = format_lazy(
        _(
            "A model, a person or a request's id. Pages show at most the newest {most} rows. The CSV has all of them."
        ),
        most=f"{MOST:,}",
    )
    finds_signs = True
    list_select_related = ["model", "user"]
    ordering = ["-started_at", "-pk"]
    exclude = ["journal"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Download]:
        return super().get_queryset(request).defer("model__card")

    def condition(self, term: str) -> Q:
        """Search people and models in their own tables, so that the rows are found by an index."""
        found = of_people("user_id", people_like(term)) | Q(AnyOf(F("model_id"), models_like(term)))
        return found | Q(request_id=term)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search all rows for the CSV table; the list only shows the first matches."""
        if getattr(request, WHOLE, False):
            return self.matching(request, queryset, search_term), False
        return super().get_search_results(request, queryset, search_term)

    def get_urls(self) -> list[URLPattern]:
        table = self.admin_site.admin_view(self.csv_view)
        return [path("csv/", table, name="model_ops_download_csv"), *super().get_urls()]

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send all rows that match the list's filters as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        setattr(request, WHOLE, True)
        rows = self.get_changelist_instance(request).get_queryset(request)
        if not_all := getattr(request, PARTIAL, ""):
            return HttpResponse(f"{not_all}\n", content_type="text/plain; charset=utf-8", status=422)
        lines = as_csv(rows, people=True)
        # Read some rows before the response starts: a filter that fails becomes a 400, not half a file.
        begun = list(islice(lines, 2))
        response = StreamingHttpResponse(chain(begun, lines), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="downloads.csv"'
        return response
