"""The base of the admin's pages: which rows a visitor sees, and no changes except through services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Func, IntegerField, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from access_requests.access.permissions import models_with_role
from access_requests.admin.lists import MOST_MODELS, LongList, OfModels
from access_requests.errors import RuleError

if TYPE_CHECKING:
    from portal.accounts.models import User

COUNTED = 1000  # rows counted for one row of a list


def number_of(rows: QuerySet[Any], column: str) -> Func:
    """Count correlated rows for each row of a list, up to the most that `shown_number` shows.

    The column must be in the rows' index, so that the rows themselves are not read.
    """
    counted = ArraySubquery(rows.order_by().values(column)[: COUNTED + 1])
    return Func(counted, function="CARDINALITY", output_field=IntegerField())


def shown_number(count: int) -> str:
    """Return the number as text, or that there are more than were counted."""
    return _("more than %(count)s") % {"count": f"{COUNTED:,}"} if count > COUNTED else str(count)


def sees_any_model(request: HttpRequest) -> bool:
    """Return whether the visitor has a role for any model; looked up once per page, for the menu."""
    user = request.user
    return bool(user.is_active and (user.is_superuser or seen_models(request)))


def seen_models(request: HttpRequest) -> list[int]:
    """Return the keys of the models that the visitor has a role for; looked up once per page."""
    known: list[int] | None = getattr(request, "seen_models", None)
    if known is None:
        known = list(models_with_role(request.user).order_by("pk").values_list("pk", flat=True))
        request.seen_models = known  # type: ignore[attr-defined]
    return known


class ReadOnlyAdmin(LongList):
    """A read-only list for the visitor's models; `to_model` leads from a row to its model, "" if it has none."""

    to_model = "model"

    class Media:
        css = {"all": ["pages-admin.css"]}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show Django's list under the model's plain name."""
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        if not self.to_model:
            return rows.none()
        models = seen_models(request)
        if len(models) == 1:
            return rows.filter(**{self.to_model: models[0]})
        if self.models_read_apart(request):
            return rows.filter(OfModels(F("model_id"), models))
        return rows.filter(**{f"{self.to_model}__in": models})

    def models_read_apart(self, request: HttpRequest) -> list[int]:
        """Return a reviewer's models if they are few and the rows have an index that begins with the model."""
        if self.to_model != "model" or request.user.is_superuser:
            return []
        models = seen_models(request)
        return models if 1 < len(models) <= MOST_MODELS else []

    def not_there(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return Django's response for a row that does not exist or that the visitor may not see."""
        answer: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
        return answer

    def has_module_permission(self, request: HttpRequest) -> bool:
        return sees_any_model(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_any_model(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def posted_key(text: str) -> int:
    """Return the primary key that a form sent; 0, which no row has, for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def signed_in(request: HttpRequest) -> User:
    """Return the user of the admin, who is always signed in."""
    return cast("User", request.user)


def say(request: HttpRequest, error: RuleError) -> None:
    """Show a service's refusal as a message on the page."""
    messages.error(request, error.sentence)
