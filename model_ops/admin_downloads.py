"""The download log in the admin: to be read and saved; a million rows must not make it slow."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.functional import cached_property

from access_requests.admin.base import ReadOnlyAdmin
from access_requests.models import GatedModel
from model_ops.download_log import as_csv
from model_ops.models import Download

COUNTED = 10_000
MOST_FOUND = 1000  # people, and models, that a search may mean


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than anybody turns pages."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:COUNTED].count())


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
    search_fields = ["model__repo_id", "user__email", "user__username", "request_id"]
    search_help_text = f"A model, a person or a request's id. Of longer lists the newest {COUNTED:,} can be turned through; all of them are in the CSV."
    list_select_related = ["model", "user"]
    ordering = ["-started_at", "-pk"]
    exclude = ["journal"]
    paginator = CappedPaginator
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """People and models are looked for in their own small tables, so that the rows are found by index."""
        words = search_term.replace("\0", "").strip()
        if not words:
            return queryset, False
        named = Q(username__icontains=words) | Q(email__icontains=words)
        people = list(get_user_model().objects.filter(named).values_list("pk", flat=True)[:MOST_FOUND])
        models = list(
            GatedModel.objects.filter(repo_id__icontains=words).values_list("pk", flat=True)[:MOST_FOUND]
        )
        return queryset.filter(Q(user__in=people) | Q(model__in=models) | Q(request_id=words)), False

    def get_urls(self) -> list[URLPattern]:
        table = self.admin_site.admin_view(self.csv_view)
        return [path("csv/", table, name="model_ops_download_csv"), *super().get_urls()]

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        """What the list shows as it is filtered, all of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request)
        lines = as_csv(rows, people=True)
        # The first rows are read before the answer begins: a filter that the database refuses is a 400, not half a file.
        begun = list(islice(lines, 2))
        response = StreamingHttpResponse(chain(begun, lines), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="downloads.csv"'
        return response
