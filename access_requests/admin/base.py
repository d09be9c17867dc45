"""What the admin's pages have in common: whose rows are shown, and that nothing is changed behind a service's back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

from access_requests.errors import RuleError
from access_requests.permissions import decidable_models


def decides_anything(request: HttpRequest) -> bool:
    """Whether this member of staff decides for any model."""
    user = request.user
    return bool(user.is_active and user.is_staff and (user.is_superuser or decidable_models(user).exists()))


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
