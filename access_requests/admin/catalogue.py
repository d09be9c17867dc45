"""Gated models in the admin.

All input goes through the services, so a refusal changes nothing and says why.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.access.permissions import is_owner
from access_requests.admin.base import (
    number_of,
    sees_any_model,
    shown_number,
    signed_in,
)
from access_requests.admin.forms import (
    AddModelForm,
    ChangeModelForm,
)
from access_requests.admin.model_pages import ModelPages
from access_requests.cards import GateForm
from access_requests.enums import WAITING_STATES
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, GatedModel, Grant, LicenceVersion
from access_requests.services.catalogue.edit import (
    change_settings,
)
from access_requests.services.catalogue.gated_models import add_model, prepare_card, update_card
from access_requests.services.catalogue.names import rename_model


class LicenceInline(admin.TabularInline):  # type: ignore[type-arg]
    model = LicenceVersion
    fields = readonly_fields = ("text_link", "language", "binding", "digest", "created_at", "retired_at")
    extra = 0
    can_delete = False
    verbose_name_plural = gettext_lazy("licence texts (immutable; a change makes a new version)")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LicenceVersion]:
        return super().get_queryset(request).defer("text").select_related("model")

    @admin.display(description=gettext_lazy("text"))
    def text_link(self, licence: LicenceVersion) -> SafeString:
        address = reverse("licence", args=[licence.model.namespace, licence.model.name, licence.pk])
        return format_html('<a href="{}">{}</a>', address, licence.name)

    @admin.display(description="SHA-256")
    def digest(self, licence: LicenceVersion) -> SafeString:
        return format_html('<code class="digest">{}</code>', licence.sha256)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class GatedModelAdmin(ModelPages):
    """Gated models.

    Another room overrides `published`, called after a change of card, licences or settings.
    """

    to_model = ""  # each row is itself a model
    list_display = ["repo_id", "gate", "grant_days", "listed", "to_decide", "with_access"]
    list_filter = ["gate", "listed"]
    search_fields = ["repo_id"]
    list_per_page = 50
    readonly_fields = ["how_read", "page_link"]
    inlines = [LicenceInline]
    change_form_template = "admin/access_requests/gatedmodel/change_form.html"
    add_fields: list[str] = [
        "repo_id",
        "card",
        "licence_file",
        "licence_language",
        "gate",
        "grant_days",
        "listed",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[GatedModel]:
        rows: QuerySet[GatedModel] = admin.ModelAdmin.get_queryset(self, request).defer("card", "card_data")
        waiting = AccessRequest.objects.filter(model=OuterRef("pk"), state__in=WAITING_STATES)
        live = Grant.objects.filter(model=OuterRef("pk"), closed_at__isnull=True)
        rows = rows.annotate(waiting_count=number_of(waiting, "model"), grant_count=number_of(live, "model"))
        return rows if request.user.is_superuser else rows.filter(roles__user=signed_in(request))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return sees_any_model(request) or self.has_add_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: GatedModel | None = None) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: GatedModel | None = None) -> bool:
        return sees_any_model(request) if obj is None else is_owner(request.user, obj)

    @admin.display(description=gettext_lazy("to decide"), ordering="waiting_count")
    def to_decide(self, model: GatedModel) -> SafeString | int:
        waiting: int = model.waiting_count  # type: ignore[attr-defined]
        if not waiting:
            return 0
        queue = reverse("admin:access_requests_accessrequest_changelist")
        return format_html(
            '<a href="{}?{}">{}</a>',
            queue,
            urlencode({"state": "waiting", "model": model.repo_id}),
            shown_number(waiting),
        )

    @admin.display(description=gettext_lazy("people with access"), ordering="grant_count")
    def with_access(self, model: GatedModel) -> str:
        return shown_number(model.grant_count)  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("form, as it was read"))
    def how_read(self, model: GatedModel) -> SafeString:
        if model.form is None:
            return format_html("{}", _("no form"))
        lines = GateForm.from_json(model.form.schema).describe()
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((line,) for line in lines)))

    @admin.display(description=gettext_lazy("page"))
    def page_link(self, model: GatedModel) -> SafeString:
        return format_html('<a href="{}">{}</a>', model.get_absolute_url(), model.address())

    def get_form(
        self, request: HttpRequest, obj: GatedModel | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return super().get_form(request, obj, change, **kwargs)
        form = super().get_form(request, obj, change, form=self.form_for(obj), **kwargs)
        form.rule_error = getattr(request, "rule_error", None)  # type: ignore[attr-defined]
        return form

    def form_for(self, obj: GatedModel | None) -> type[AddModelForm | ChangeModelForm]:
        return ChangeModelForm if obj else AddModelForm

    def get_fieldsets(self, request: HttpRequest, obj: GatedModel | None = None) -> list[Any]:
        if obj is None:
            return [(None, {"fields": self.add_fields})]
        return [
            (
                None,
                {
                    "fields": [
                        "repo_id",
                        "page_link",
                        "gate",
                        "grant_days",
                        "approvals",
                        "listed",
                    ]
                },
            ),
            (_("Card and form"), {"fields": ["card", "how_read"]}),
        ]

    def get_inlines(self, request: HttpRequest, obj: GatedModel | None) -> list[Any]:
        return list(self.inlines) if obj else []

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a service's refusal as the form's own error, with everything rolled back."""
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except RuleError as error:
            request.rule_error = error  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: GatedModel, form: Any, change: bool) -> None:
        given = form.cleaned_data
        if not change:
            self.add(request, obj, given)
            return
        stored = GatedModel.objects.get(pk=obj.pk)
        card = None
        if "card" in form.changed_data:  # rendered before any lock is taken
            card = prepare_card(given["card"], repo_id=given["repo_id"], replaces=stored.card)
        if "repo_id" in form.changed_data:  # first: ids are locked before the model's row
            rename_model(model=stored, to=given["repo_id"], actor=signed_in(request))
        if card is not None:
            read = update_card(model=stored, card=card, actor=signed_in(request))
            for warning in read.warnings:
                messages.warning(request, warning)
        settings = {name: given[name] for name in ("gate", "grant_days", "approvals", "listed")}
        change_settings(model=stored, actor=signed_in(request), **settings)
        self.published(request, stored)

    def add(self, request: HttpRequest, obj: GatedModel, given: dict[str, Any]) -> None:
        """Add the model, with the person who adds it as its first owner."""
        made = self.make(request, given, self.fields_of(request, given))
        obj.__dict__.update(made.__dict__)

    def fields_of(self, request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
        """Return the form's input as arguments for the service."""
        return {
            "repo_id": given["repo_id"],
            "card": given["card"],
            "licences": given["licences"],
            "gate": given["gate"],
            "days": given["grant_days"],
            "listed": given["listed"],
            "owner": signed_in(request),
            "actor": signed_in(request),
        }

    def make(self, request: HttpRequest, given: dict[str, Any], fields: dict[str, Any]) -> GatedModel:
        """Add the catalogue entry only; a room with weights adds those."""
        return add_model(**fields)
