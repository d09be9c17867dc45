"""Grants in the admin: read-only, and revoked through a service that emails the person."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.access.permissions import is_reviewer
from access_requests.admin.base import ReadOnlyAdmin, say, signed_in
from access_requests.admin.filters import ModelFilter
from access_requests.errors import RuleError
from access_requests.models import AccessToken, Grant
from access_requests.search import AnyOf, models_like, of_people, people_like
from access_requests.services.grants import revoke_access


class StandingFilter(admin.SimpleListFilter):
    """Filter grants by whether they are live, ended or revoked."""

    title = gettext_lazy("standing")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", _("live")), ("ended", _("ended")), ("revoked", _("revoked"))]

    def queryset(self, request: HttpRequest, grants: Any) -> Any:
        now = timezone.now()
        chosen: dict[str, dict[str, Any]] = {
            "live": {"revoked_at__isnull": True, "ends_at__gt": now},
            "ended": {"revoked_at__isnull": True, "ends_at__lte": now},
            "revoked": {"revoked_at__isnull": False},
        }
        return grants.filter(**chosen.get(self.value() or "", {}))


class TokenInline(admin.TabularInline):  # type: ignore[type-arg]
    model = AccessToken
    fields = readonly_fields = (
        "name",
        "hint",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
        "last_used_address",
    )
    extra = 0
    can_delete = False
    verbose_name_plural = gettext_lazy("tokens (only their digests are stored)")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RevokeForm(forms.Form):
    reason = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=gettext_lazy(
            "The person sees it. If you leave it empty, the email says that no reason was given."
        ),
        label=gettext_lazy("Reason"),
    )


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ["person", "model", "standing", "source", "starts_at", "ends_at"]
    list_filter = [StandingFilter, ModelFilter, "source"]
    list_select_related = ["user", "model"]
    search_fields = ["user"]  # shows the search field; `condition` says where a term is looked for
    search_help_text = gettext_lazy("A person or a model")
    finds_signs = True
    fields = (
        "model",
        "user",
        "standing",
        "source",
        "request",
        "granted_by",
        "starts_at",
        "ends_at",
        "first_token_at",
    )
    readonly_fields = ["standing"]
    inlines = [TokenInline]
    change_form_template = "admin/access_requests/grant/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Grant]:
        return super().get_queryset(request).defer("model__card")

    def get_ordering(self, request: HttpRequest) -> list[str | Combinable]:
        """Sort the newest first; with the filter for ended grants, those that ended last."""
        return ["-ends_at", "-pk"] if request.GET.get("standing") == "ended" else ["-pk"]

    def condition(self, term: str) -> Q:
        return of_people("user_id", people_like(term)) | Q(AnyOf(F("model_id"), models_like(term)))

    def get_fields(self, request: HttpRequest, obj: Grant | None = None) -> tuple[str, ...]:
        ended = ["revoked_at", "revoked_by", "revoke_reason"] if obj and obj.revoked_at else []
        return (*self.fields, *ended)

    def get_urls(self) -> list[URLPattern]:
        revoke = path(
            "<path:object_id>/revoke/",
            self.admin_site.admin_view(self.revoke_view),
            name="access_requests_grant_revoke",
        )
        return [revoke, *super().get_urls()]

    @admin.display(description=gettext_lazy("person"), ordering="user__username")
    def person(self, grant: Grant) -> str:
        return f"{grant.user.get_full_name()} ({grant.user.username})"

    @admin.display(description=gettext_lazy("standing"))
    def standing(self, grant: Grant) -> SafeString:
        labels = {"live": _("live"), "ended": _("ended"), "revoked": _("revoked")}
        state = "revoked" if grant.revoked_at else "live" if grant.is_live() else "ended"
        return format_html('<span class="state {}">{}</span>', state, labels[state])

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        grant = self.get_object(request, unquote(object_id))
        may = grant is not None and grant.is_live() and is_reviewer(request.user, grant.model)
        return super().change_view(request, object_id, form_url, {"may_revoke": may, **(extra_context or {})})

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the reason, then revoke the grant with all its tokens."""
        grant = self.get_object(request, unquote(object_id))
        if grant is None or not is_reviewer(request.user, grant.model):
            return self.not_there(request, object_id)
        if not grant.is_live():
            messages.warning(request, _("This grant has already ended, so there is nothing to revoke."))
            return redirect("admin:access_requests_grant_change", grant.pk)
        form = RevokeForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                revoke_access(
                    model=grant.model,
                    user=grant.user,
                    reason=form.cleaned_data["reason"],
                    actor=signed_in(request),
                )
            except RuleError as error:
                say(request, error)
            else:
                messages.success(
                    request,
                    _("The access of %(person)s to %(model)s is revoked. They are informed by email.")
                    % {"person": grant.user, "model": grant.model},
                )
            return redirect("admin:access_requests_grant_change", grant.pk)
        context = {
            **self.admin_site.each_context(request),
            "grant": grant,
            "original": grant,
            "form": form,
            "opts": self.opts,
        }
        context["title"] = _("Revoke the access of %(person)s to %(model)s") % {
            "person": grant.user,
            "model": grant.model,
        }
        return TemplateResponse(request, "admin/access_requests/grant/revoke.html", context)
