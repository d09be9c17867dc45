"""What the admin's pages have in common: whose rows are shown, and that nothing is changed behind a service's back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Func, IntegerField, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

from access_requests.errors import RuleError
from access_requests.permissions import decidable_models

DECIDES = "decides_anything"  # an attribute of the request
COUNTED = 1000  # of the rows that belong to one row of a list


def number_of(rows: QuerySet[Any], column: str) -> Func:
    """Count correlated rows for each row of a list, no further than `shown_number` shows.

    The column is one that the rows' index holds, so that the rows themselves are not read.
    """
    counted = ArraySubquery(rows.order_by().values(column)[: COUNTED + 1])
    return Func(counted, function="CARDINALITY", output_field=IntegerField())


def shown_number(count: int) -> str:
    """Return the number, or that there are more than were counted."""
    return f"more than {COUNTED:,}" if count > COUNTED else str(count)


def decides_anything(request: HttpRequest) -> bool:
    """Whether this member of staff decides for any model; asked once for a page, whose menu asks for every list."""
    user = request.user
    if not (user.is_active and user.is_staff):
        return False
    known = getattr(request, DECIDES, None)
    if known is None or known[0] != user.pk:
        known = (user.pk, bool(user.is_superuser or decidable_models(user).exists()))
        setattr(request, DECIDES, known)
    return bool(known[1])


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows of the models that the visitor decides for; `to_model` is the way from a row to its model, "" for rows of none."""

    to_model = "model"

    class Media:
        css = {"all": ["pages-admin.css"]}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's list under its plain name."""
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        if not self.to_model:
            return rows.none()
        return rows.filter(**{f"{self.to_model}__in": decidable_models(request.user)})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return decides_anything(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return decides_anything(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def say(request: HttpRequest, error: RuleError) -> None:
    """A service's refusal as the page's message."""
    messages.error(request, error.sentence)
