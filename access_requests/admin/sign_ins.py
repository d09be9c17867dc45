"""Signed-in machines and trusted repositories: superusers read and end them, their person adds them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.admin.base import ReadOnlyAdmin, signed_in
from access_requests.models import Machine, TokenExchange, TrustedRepository
from access_requests.services.oauth.machines import sign_out
from access_requests.services.oauth.trusted import remove_trusted

MOST_EXCHANGES = 50  # rows on a trusted repository's page


class SuperuserAdmin(ReadOnlyAdmin):
    """A list of rows that belong to a person and not to a model."""

    to_model = ""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Allow superusers only: a role for a model gives no right to see people's machines."""
        return bool(request.user.is_active and request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)


@admin.register(Machine)
class MachineAdmin(SuperuserAdmin):
    """Machines, one row for each approved `hf auth login`."""

    list_display = ["name", "user", "address", "signed_in_at", "refreshed_at", "ends_at", "signed_out_at"]
    list_filter = [("signed_out_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["name", "user__username", "user__email", "address", "client"]
    fields = [
        "name",
        "user",
        "client_id",
        "client",
        "address",
        "signed_in_at",
        "refreshed_at",
        "ends_at",
        "signed_out_at",
        "signed_out_why",
    ]
    actions = ["sign_out_machines"]
    list_per_page = 50

    @admin.action(description=gettext_lazy("Sign the chosen machines out"), permissions=["view"])
    def sign_out_machines(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        """Sign out each machine with its tokens; its person sees why on their page."""
        ended = sum(
            sign_out(machine=machine, why="signed out by an administrator", actor=signed_in(request))
            for machine in machines
        )
        messages.success(request, _("Signed out: %(count)d.") % {"count": ended})


class ExchangeInline(admin.TabularInline):  # type: ignore[type-arg]
    """The latest tokens that a trusted repository was given."""

    model = TokenExchange
    fields = readonly_fields = ("at", "address", "token", "claims")
    extra = 0
    can_delete = False
    verbose_name_plural = gettext_lazy("the last exchanges")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TokenExchange]:
        """Return only the newest exchanges of each repository: a busy one has thousands."""
        of_the_same = TokenExchange.objects.filter(trusted=OuterRef("trusted")).order_by("-pk")
        newest = of_the_same.values("pk")[:MOST_EXCHANGES]
        return super().get_queryset(request).filter(pk__in=Subquery(newest)).select_related("token")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TrustedRepository)
class TrustedRepositoryAdmin(SuperuserAdmin):
    """Trusted repositories: whose jobs may read, on whose behalf, and under which conditions."""

    list_display = [
        "repository",
        "user",
        "model",
        "ref",
        "environment",
        "workflow",
        "last_used_at",
        "removed_at",
    ]
    list_filter = ["issuer", ("removed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user", "model"]
    search_fields = ["repository", "user__username", "user__email", "model__repo_id"]
    fields = [
        "user",
        "issuer",
        "repository",
        "repository_id",
        "ref",
        "environment",
        "workflow",
        "model",
        "created_at",
        "last_used_at",
        "removed_at",
    ]
    readonly_fields = ["repository_id"]
    inlines = [ExchangeInline]
    actions = ["remove_trust"]
    list_per_page = 50

    @admin.action(description=gettext_lazy("Stop trusting the chosen repositories"), permissions=["view"])
    def remove_trust(self, request: HttpRequest, repositories: QuerySet[TrustedRepository]) -> None:
        """Remove each trust with the tokens that were made for it."""
        ended = sum(remove_trusted(trusted=trusted, user=signed_in(request)) for trusted in repositories)
        messages.success(request, _("No longer trusted. Tokens that ended: %(count)d.") % {"count": ended})
