"""Assigned folders and allowed repositories in the admin, which only superusers can see, add and withdraw."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.admin.base import signed_in
from access_requests.admin.sign_ins import SuperuserAdmin
from access_requests.errors import RuleError
from model_ops.models import AllowedRepository, AssignedFolder
from model_ops.services.sources.assign import (
    allow_repository,
    assign_folder,
    check_allowance,
    check_assignment,
    others_who_may,
    withdraw_folder,
    withdraw_repository,
)

LINE = forms.TextInput(attrs={"class": "vLargeTextField"})


class RightForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that asks the service whether it would accept the input."""

    def clean(self) -> dict[str, Any]:
        """Return what would be stored, or show the service's refusal next to its field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        try:
            return cleaned | self.checked(cleaned)
        except RuleError as error:
            self.add_error(error.field if error.field in self.fields else None, error.sentence)
            return cleaned

    def checked(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as the service would store them."""
        raise NotImplementedError

    def validate_constraints(self) -> None:
        """Skip the check here: the service explains in a sentence what already exists."""


class AssignedFolderForm(RightForm):
    class Meta:
        model = AssignedFolder
        fields = ["path", "namespace"]
        labels = {"path": gettext_lazy("Folder")}
        help_texts = {
            "path": gettext_lazy("The absolute path of an existing folder on the server."),
            "namespace": gettext_lazy("The part of a model's id before the slash: ai for ai/tulu."),
        }
        widgets = {"path": LINE}

    def checked(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """Return the folder's real path and the namespace."""
        folder, namespace = check_assignment(path=cleaned["path"], namespace=cleaned["namespace"])
        return {"path": str(folder), "namespace": namespace}


class AllowedRepositoryForm(RightForm):
    class Meta:
        model = AllowedRepository
        fields = ["repo_id", "namespace"]
        labels = {
            "repo_id": gettext_lazy("Repository"),
            "namespace": gettext_lazy("Only for the namespace"),
        }
        help_texts = {
            "repo_id": gettext_lazy("As on the Hub: meta-llama/Llama-2-7b-hf."),
            "namespace": gettext_lazy(
                "The part of a model's id before the slash. Leave it empty to allow the repository for every model."
            ),
        }
        widgets = {"repo_id": LINE}

    def checked(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """Return the repository's id and the namespace."""
        repo_id, namespace = check_allowance(repo_id=cleaned["repo_id"], namespace=cleaned["namespace"])
        return {"repo_id": repo_id, "namespace": namespace}


class RightAdmin(SuperuserAdmin):
    """Rows that can be added and deleted, but never changed."""

    list_per_page = 50
    empty_value_display = gettext_lazy("an operator")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return every row to superusers and none to others, who have no model to find rows by."""
        rows = admin.ModelAdmin.get_queryset(self, request)
        return rows if self.has_module_permission(request) else rows.none()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Show on the add page what the row does."""
        fields = list(self.form.base_fields)
        if obj is None:
            return [(None, {"fields": fields, "description": self.description()})]
        return [(None, {"fields": [*fields, *self.readonly_fields]})]

    def description(self) -> str:
        """Return the text above the fields of the add page."""
        raise NotImplementedError

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)


@admin.register(AssignedFolder)
class AssignedFolderAdmin(RightAdmin):
    """Folders that owners in a namespace may name as weight sources."""

    form = AssignedFolderForm
    list_display = ["path", "namespace", "assigned_by", "created_at"]
    list_select_related = ["assigned_by"]
    search_fields = ["path", "namespace"]
    readonly_fields = ["assigned_by", "created_at"]

    def description(self) -> str:
        """Return an explanation that lists the folders of `GATEHOUSE_SOURCES`."""
        about = _(
            "Owners of models in the namespace may then name this folder, and every folder below it, as a source of "
            "weights. Only superusers can name a folder that is not assigned."
        )
        roots = ", ".join(str(root) for root in settings.GATEHOUSE_SOURCES)
        if not roots:
            return format_html(
                "{} {}", about, _("GATEHOUSE_SOURCES names no folder, so none can be assigned.")
            )
        return format_html("{} {}", about, _("Choose a folder at or below %(folders)s.") % {"folders": roots})

    def save_model(self, request: HttpRequest, obj: AssignedFolder, form: Any, change: bool) -> None:
        made = assign_folder(path=obj.path, namespace=obj.namespace, actor=signed_in(request))
        obj.__dict__.update(made.__dict__)
        for other in others_who_may(made):
            messages.warning(
                request,
                _(
                    "This overlaps with %(folder)s, which is assigned to %(namespace)s: owners of one can read the other."
                )
                % {"folder": other.path, "namespace": other.namespace},
            )

    def delete_model(self, request: HttpRequest, obj: AssignedFolder) -> None:
        withdraw_folder(assigned=obj, actor=signed_in(request))


@admin.register(AllowedRepository)
class AllowedRepositoryAdmin(RightAdmin):
    """Hub repositories that are fetched with the portal's token when an owner names them."""

    form = AllowedRepositoryForm
    list_display = ["repo_id", "for_namespace", "endpoint", "allowed_by", "created_at"]
    list_select_related = ["allowed_by"]
    search_fields = ["repo_id", "namespace"]
    readonly_fields = ["endpoint", "allowed_by", "created_at"]

    def description(self) -> str:
        """Return the explanation of what the portal's token is used for."""
        return _(
            "When an owner names this repository as hf:REPO_ID@REVISION, it is fetched with the portal's own Hub token. "
            "Everything else that owners name is fetched without a token, so public repositories need no entry here."
        )

    @admin.display(description=gettext_lazy("namespace"), ordering="namespace")
    def for_namespace(self, allowed: AllowedRepository) -> str:
        return allowed.namespace or _("every namespace")

    def save_model(self, request: HttpRequest, obj: AllowedRepository, form: Any, change: bool) -> None:
        made = allow_repository(repo_id=obj.repo_id, namespace=obj.namespace, actor=signed_in(request))
        obj.__dict__.update(made.__dict__)

    def delete_model(self, request: HttpRequest, obj: AllowedRepository) -> None:
        withdraw_repository(allowed=obj, actor=signed_in(request))
