"""Revisions in the admin, read-only; owners publish or discard held uploads."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from access_requests.access.permissions import is_owner
from access_requests.admin.base import ReadOnlyAdmin, say, signed_in
from access_requests.enums import Role
from access_requests.errors import RuleError
from access_requests.models import GatedModel
from model_ops.models import Revision, UploadRule
from model_ops.services.uploads.holding import difference, discard_upload, publish_upload
from model_ops.services.uploads.rules import set_upload_rule


def owned_models(user: Any) -> QuerySet[GatedModel]:
    """Return the models to which this person may upload."""
    if user.is_superuser:
        return GatedModel.objects.all()
    return GatedModel.objects.filter(roles__user=user, roles__role=Role.OWNER)


class HeldFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", _("held")), ("no", _("published"))]

    def queryset(self, request: HttpRequest, rows: QuerySet[Revision]) -> QuerySet[Revision]:
        return rows.filter(held_at__isnull=self.value() == "no") if self.value() else rows


@admin.register(Revision)
class RevisionAdmin(ReadOnlyAdmin):
    list_display = ["model", "commit", "title", "state", "has_weights", "author", "created_at"]
    list_filter = [HeldFilter, "has_weights"]
    search_fields = ["model__repo_id", "commit"]
    list_select_related = ["model"]
    fields = [
        "state", "model", "commit", "parent", "title", "message", "author", "uploader", "branch", "created_at",
        "with_weights", "recovery", "source", "file_list",
    ]  # fmt: skip
    readonly_fields = ["state", "with_weights", "source", "file_list"]
    change_form_template = "admin/model_ops/revision/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Revision]:
        """Show held revisions only to the owners of their models."""
        return super().get_queryset(request).filter(Q(held_at=None) | Q(model__in=owned_models(request.user)))

    @admin.display(description=gettext_lazy("state"))
    def state(self, revision: Revision) -> str:
        return _("held") if revision.held_at else _("published")

    @admin.display(description=gettext_lazy("has weights"), boolean=True)
    def with_weights(self, revision: Revision) -> bool:
        """Return the field under a separate name, without its help text, which explains what *no* means."""
        return revision.has_weights

    @admin.display(description=gettext_lazy("as a weight source"))
    def source(self, revision: Revision) -> str:
        return (
            f"gatehouse:{revision.model.repo_id}@{revision.commit}"
            if revision.has_weights
            else _("no weights")
        )

    @admin.display(description=gettext_lazy("files"))
    def file_list(self, revision: Revision) -> SafeString:
        files = revision.files.select_related("blob").order_by("path")
        lines = "\n".join(f"{file.blob.size:>16,}  {file.blob_id}  {file.path}" for file in files)
        return format_html("<pre>{}</pre>", lines)

    def get_urls(self) -> list[URLPattern]:
        publish = self.admin_site.admin_view(require_POST(self.publish_view))
        discard = self.admin_site.admin_view(require_POST(self.discard_view))
        return [
            path("<int:pk>/publish/", publish, name="model_ops_revision_publish"),
            path("<int:pk>/discard/", discard, name="model_ops_revision_discard"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        revision = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if revision is not None and is_owner(request.user, revision.model):
            context["may_use"] = revision.has_weights and revision.uploader_id is not None
            context["source"] = self.source(revision)
            if revision.held_at:
                context["difference"] = difference(revision)
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def _owned_revision(self, request: HttpRequest, pk: int) -> Revision:
        revision = self.get_queryset(request).select_related("model").filter(pk=pk).first()
        if revision is None or not is_owner(request.user, revision.model):
            raise Http404(
                _("There is no revision %(number)s that you may publish or discard.") % {"number": pk}
            )
        return revision

    def publish_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Move the branch to this revision; licence texts that were ticked become texts to accept."""
        revision = self._owned_revision(request, pk)
        try:
            top = publish_upload(
                revision=revision,
                actor=signed_in(request),
                licences=request.POST.getlist("licence"),
            )
        except RuleError as error:
            say(request, error)
            return redirect("admin:model_ops_revision_change", pk)
        said = _("%(branch)s is at %(commit)s now.") % {"branch": revision.branch, "commit": top.commit[:8]}
        self.message_user(request, said, messages.SUCCESS)
        return redirect("admin:model_ops_revision_change", top.pk)

    def discard_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Delete this revision and those uploaded on top of it."""
        revision = self._owned_revision(request, pk)
        try:
            gone = discard_upload(revision=revision, actor=signed_in(request))
        except RuleError as error:
            say(request, error)
            return redirect("admin:model_ops_revision_change", pk)
        names = ", ".join(commit[:8] for commit in gone)
        self.message_user(request, _("Discarded: %(commits)s.") % {"commits": names}, messages.SUCCESS)
        return redirect("admin:model_ops_revision_changelist")


class UploadRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = UploadRule
        fields = ["model", "publish_uploads"]


@admin.register(UploadRule)
class UploadRuleAdmin(ReadOnlyAdmin):
    """Whether a model publishes or holds uploads, as its owners choose; without a row they are held."""

    form = UploadRuleForm
    list_display = ["model", "publish_uploads"]
    list_select_related = ["model"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[UploadRule]:
        return super().get_queryset(request).filter(model__in=owned_models(request.user))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = owned_models(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["model"] if obj else []

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and owned_models(request.user).exists())

    def has_change_permission(self, request: HttpRequest, obj: UploadRule | None = None) -> bool:
        return self.has_add_permission(request) if obj is None else is_owner(request.user, obj.model)

    def save_model(self, request: HttpRequest, obj: UploadRule, form: Any, change: bool) -> None:
        obj.pk = set_upload_rule(
            model=obj.model,
            publish_uploads=obj.publish_uploads,
            actor=signed_in(request),
        ).pk
