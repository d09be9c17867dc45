"""Tokens in the admin: visible to the model's reviewers, revoked by a service that emails the person."""

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

from access_requests.admin.base import ReadOnlyAdmin, say, signed_in
from access_requests.errors import RuleError
from access_requests.models import AccessToken, Grant
from access_requests.search import (
    MOST_PEOPLE,
    OF_TOKEN,
    AnyOf,
    by_index,
    holds,
    models_like,
    network_address,
    of_people,
    people_like,
    some_of,
)
from access_requests.services.tokens import may_revoke_token, revoke_token


class StandingFilter(admin.SimpleListFilter):
    """Filter by whether a token still works, as far as that depends on the token itself."""

    title = gettext_lazy("standing")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", _("live")), ("ended", _("ended")), ("revoked", _("revoked"))]

    def queryset(self, request: HttpRequest, tokens: Any) -> Any:
        ended = {"revoked_at__isnull": True, "expires_at__lte": timezone.now()}
        match self.value():
            case "live":
                return tokens.filter(revoked_at__isnull=True).exclude(**ended)
            case "ended":
                return tokens.filter(**ended)
            case "revoked":
                return tokens.filter(revoked_at__isnull=False)
        return tokens


class RevokeForm(forms.Form):
    reason = forms.CharField(
        required=False,
        max_length=200,
        help_text=gettext_lazy("The person gets it by email. Their access stays as it is."),
        label=gettext_lazy("Reason"),
    )


@admin.register(AccessToken)
class AccessTokenAdmin(ReadOnlyAdmin):
    """Tokens. Only digests are stored, and no page shows those."""

    to_model = "grant__model"
    list_display = ["name", "hint", "person", "for_what", "standing", "created_at", "ends", "last_use"]
    list_filter = [StandingFilter, "kind", "origin"]
    list_select_related = ["user", "grant__model"]
    search_fields = ["name"]  # shows the search field; `condition` says where a term is looked for
    search_help_text = gettext_lazy("Name and beginning of a token, its person, its model, a network address")
    fields = (
        "name",
        "hint",
        "kind",
        "user",
        "grant",
        "standing",
        "origin",
        "networks",
        "created_at",
        "expires_at",
        "replaced_by",
        "last_used_at",
        "last_used_address",
        "last_used_client",
    )
    readonly_fields = ["standing"]
    change_form_template = "admin/access_requests/accesstoken/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessToken]:
        return super().get_queryset(request).defer("grant__model__card")

    def get_ordering(self, request: HttpRequest) -> list[str | Combinable]:
        """Sort the newest first; with the filter for ended tokens, those that ended last."""
        return ["-expires_at", "-pk"] if request.GET.get("standing") == "ended" else ["-pk"]

    def condition(self, term: str) -> Q:
        """Search the token, its person and its model; a network address must be given in full."""
        found = holds(OF_TOKEN, term) | of_people("user_id", people_like(term))
        if models := models_like(term):
            grants = some_of(by_index(Grant.objects.filter(model__in=models), MOST_PEOPLE + 1))
            grants.more |= models.more
            found |= Q(AnyOf(F("grant_id"), grants))
        address = network_address(term)
        return found | Q(last_used_address=address) if address else found

    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> tuple[str, ...]:
        ended = ["revoked_at", "revoke_reason"] if obj and obj.revoked_at else []
        return (*self.fields, *ended)

    def get_urls(self) -> list[URLPattern]:
        revoke = path(
            "<path:object_id>/revoke/",
            self.admin_site.admin_view(self.revoke_view),
            name="access_requests_accesstoken_revoke",
        )
        return [revoke, *super().get_urls()]

    @admin.display(description=gettext_lazy("person"), ordering="user__username")
    def person(self, token: AccessToken) -> str:
        return f"{token.user.get_full_name()} ({token.user.username})"

    @admin.display(description=gettext_lazy("for"))
    def for_what(self, token: AccessToken) -> str:
        return str(token.grant.model) if token.grant else token.get_kind_display()

    @admin.display(description=gettext_lazy("ends"), ordering="expires_at")
    def ends(self, token: AccessToken) -> str:
        end = token.expires_at
        if token.grant and (end is None or end > token.grant.ends_at):
            end = token.grant.ends_at
        return f"{end:%Y-%m-%d}" if end else _("when it is revoked")

    @admin.display(description=gettext_lazy("last use"), ordering="last_used_at")
    def last_use(self, token: AccessToken) -> str:
        if token.last_used_at is None:
            return _("never")
        return _("%(time)s UTC from %(address)s") % {
            "time": f"{token.last_used_at:%Y-%m-%d %H:%M}",
            "address": token.last_used_address or _("an unknown address"),
        }

    @admin.display(description=gettext_lazy("standing"))
    def standing(self, token: AccessToken) -> SafeString:
        over = token.expires_at is not None and token.expires_at <= timezone.now()
        labels = {"live": _("live"), "ended": _("ended"), "revoked": _("revoked")}
        state = "revoked" if token.revoked_at else "ended" if over else "live"
        return format_html('<span class="state {}">{}</span>', state, labels[state])

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        token = self.get_object(request, unquote(object_id))
        may = token is not None and not token.revoked_at and may_revoke_token(token, signed_in(request))
        return super().change_view(request, object_id, form_url, {"may_revoke": may, **(extra_context or {})})

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the reason, then revoke the token."""
        token = self.get_object(request, unquote(object_id))
        if token is None or not may_revoke_token(token, signed_in(request)):
            return self.not_there(request, object_id)
        back = redirect("admin:access_requests_accesstoken_change", token.pk)
        if token.revoked_at:
            messages.warning(request, _("This token has already ended, so there is nothing to revoke."))
            return back
        form = RevokeForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                revoke_token(token=token, user=signed_in(request), reason=form.cleaned_data["reason"])
            except RuleError as error:
                say(request, error)
            else:
                messages.success(
                    request,
                    _("The token “%(name)s” of %(person)s is revoked.")
                    % {"name": token.name, "person": token.user},
                )
            return back
        context = {
            **self.admin_site.each_context(request),
            "token": token,
            "original": token,
            "form": form,
            "opts": self.opts,
            "title": _("Revoke the token “%(name)s” of %(person)s")
            % {"name": token.name, "person": token.user},
        }
        return TemplateResponse(request, "admin/access_requests/accesstoken/revoke.html", context)
