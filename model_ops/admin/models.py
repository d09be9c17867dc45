"""Gated models in the admin with their weights: added in one step, changed together with what is published."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.admin.base import say, signed_in
from access_requests.admin.catalogue import GatedModelAdmin
from access_requests.admin.forms import AddModelForm
from access_requests.errors import RuleError
from access_requests.models import GatedModel
from access_requests.services.catalogue.gated_models import understand_card
from model_ops.enums import Compat, DiffMethod, DiffOnly, Dtype, ResizePolicy
from model_ops.queries import current_recovery, weights_state
from model_ops.services.catalogue.add_model import add_model_with_weights, check_new, update_model
from model_ops.services.recoveries.weights import PreparedWeights, prepare_weights
from model_ops.services.revisions.licence_files import prompt_as_licence
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.sources.rights import folders_of, namespaces_of

SOURCE = gettext_lazy(
    "A folder on the server, hf:REPO_ID@REVISION, or gatehouse:REPO_ID@COMMIT for an upload."
)
SOURCES = ["base", "diff", "files"]
CHOICES = [
    "method", "compat", "dtype", "resize_policy", "max_shard_size", "keep_rotary", "expected_sum", "sum_tolerance",
    "tied", "diff_only",
]  # fmt: skip
LINE = forms.TextInput(attrs={"class": "vLargeTextField"})


class SourcesForm(forms.Form):
    """The sources of weights: base and diff, or files that are published as they are."""

    base = forms.CharField(
        label=gettext_lazy("Base"), required=False, max_length=1000, help_text=SOURCE, widget=LINE
    )
    diff = forms.CharField(
        label=gettext_lazy("Diff"), required=False, max_length=1000, help_text=SOURCE, widget=LINE
    )
    files = forms.CharField(  # type: ignore[assignment]  # Django takes fields out of the class
        label=gettext_lazy("Files"),
        required=False,
        max_length=1000,
        widget=LINE,
        help_text=gettext_lazy(
            "Weights that are published as they are, instead of base and diff. "
            "A folder on the server, hf:REPO_ID@REVISION, or gatehouse:REPO_ID@COMMIT for an upload."
        ),
    )
    method = forms.ChoiceField(label=gettext_lazy("The diff is"), choices=DiffMethod.choices, required=False)
    compat = forms.ChoiceField(label=gettext_lazy("Diff made by"), choices=Compat.choices, required=False)
    dtype = forms.ChoiceField(
        label=gettext_lazy("Dtype"),
        choices=[("", gettext_lazy("as that tool does")), *Dtype.choices],
        required=False,
    )
    resize_policy = forms.ChoiceField(
        label=gettext_lazy("Added vocabulary rows"),
        choices=[("", gettext_lazy("as the diff says, otherwise the mean")), *ResizePolicy.choices],
        required=False,
    )
    max_shard_size = forms.CharField(
        label=gettext_lazy("Largest file"),
        max_length=20,
        required=False,
        help_text=gettext_lazy("Like 2500MB; 5GB if left empty."),
    )
    keep_rotary = forms.BooleanField(label=gettext_lazy("Keep rotary buffers"), required=False)
    expected_sum = forms.FloatField(
        label=gettext_lazy("Sum of all parameters"),
        required=False,
        help_text=gettext_lazy("Sum of all recovered weights, as published."),
    )
    sum_tolerance = forms.FloatField(
        label=gettext_lazy("Allowed difference"),
        required=False,
        min_value=0,
        help_text=gettext_lazy("If left empty: 0.01, or a millionth of a large sum."),
    )
    tied = forms.CharField(
        label=gettext_lazy("Names of one tensor"),
        max_length=1000,
        required=False,
        help_text=gettext_lazy(
            "Only if the sources do not show it: lm_head.weight=model.embed_tokens.weight, or none."
        ),
    )
    diff_only = forms.ChoiceField(
        label=gettext_lazy("Tensors that are only in the diff"),
        choices=[("", gettext_lazy("as the diff says, otherwise refuse")), *DiffOnly.choices],
        required=False,
    )


def what_may_be_named(user: Any, namespace: str = "") -> SafeString:
    """Say which sources this person may name for a model of the namespace (empty: any model of theirs)."""
    if user.is_superuser:
        roots = ", ".join(str(root) for root in settings.GATEHOUSE_SOURCES)
        if not roots:
            return format_html(
                "{}", _("You can name folders below: none, until GATEHOUSE_SOURCES names one.")
            )
        return format_html("{}", _("You can name folders below: %(folders)s.") % {"folders": roots})
    namespaces = [namespace] if namespace else namespaces_of(user)
    folders = [(name, folder) for name in namespaces for folder in folders_of(name)]
    if not folders:
        return format_html(
            "{}",
            _(
                "No folder is assigned to your namespace: name a repository or an upload, or ask a superuser to assign one."
            ),
        )
    one = _("%(folder)s (for %(namespace)s)")
    named = ", ".join(one % {"folder": folder, "namespace": name} for name, folder in folders)
    return format_html(
        "{}", _("You can name these folders and the folders below them: %(folders)s.") % {"folders": named}
    )


def _prepare_from_form(given: dict[str, Any], actor: Any, repo_id: str) -> PreparedWeights:
    """Return the plan of a form's sources and choices; empty fields use the engine's defaults."""
    sources = {name: given[name] for name in SOURCES}
    # A typed zero counts as a value.
    empty = [name for name in CHOICES if given[name] is None or given[name] is False or given[name] == ""]
    choices = {name: given[name] for name in CHOICES if name not in empty}
    namespace = repo_id.partition("/")[0]
    return prepare_weights(**sources, options=choices, in_admin=True, actor=actor, namespace=namespace)


class AddModelWithWeightsForm(SourcesForm, AddModelForm):
    """The form that adds a model with its weights; the admin's fieldsets order its fields."""

    class Meta(AddModelForm.Meta):
        pass


@admin.register(GatedModel)
class GatedModelWithWeightsAdmin(GatedModelAdmin):
    """Gated models with their weights. The form's sources are planned first; a refusal adds nothing."""

    readonly_fields = [*GatedModelAdmin.readonly_fields, "weights", "plan"]

    def form_for(self, obj: GatedModel | None) -> Any:
        return super().form_for(obj) if obj else AddModelWithWeightsForm

    def get_fieldsets(self, request: HttpRequest, obj: GatedModel | None = None) -> list[Any]:
        sets = super().get_fieldsets(request, obj)
        if obj:
            return [*sets, (_("Weights"), {"fields": ["weights", "plan"]})]
        about = what_may_be_named(signed_in(request))
        return [*sets, (_("Weights"), {"fields": [*SOURCES, *CHOICES], "description": about})]

    @admin.display(description=gettext_lazy("weights"))
    def weights(self, model: GatedModel) -> str:
        state = weights_state(model)
        if state.state and not state.ready:
            return _("%(state)s, %(percent)s %%") % {"state": state.state, "percent": state.percent}
        return state.state or _("none")

    @admin.display(description=gettext_lazy("plan"))
    def plan(self, model: GatedModel) -> SafeString:
        recovery = current_recovery(model)
        text = recovery.plan.get("text", "") if recovery else _("No weights yet.")
        return format_html(
            '<pre class="plan">{}</pre>', "\n".join(filter(None, [text, recovery.error if recovery else ""]))
        )

    def make(self, request: HttpRequest, given: dict[str, Any], fields: dict[str, Any]) -> GatedModel:
        check_new(fields["repo_id"], asker=signed_in(request))
        prepared = _prepare_from_form(given, signed_in(request), fields["repo_id"])
        if not fields["licences"]:
            fields["licences"] = prompt_as_licence(understand_card(fields["card"]).form.prompt)
        model = add_model_with_weights(prepared=prepared, **fields)[0]
        messages.info(request, _("The weights are made when the first person gets access."))
        return model

    def published(self, request: HttpRequest, model: GatedModel) -> None:
        publish_revision(model=model, actor=signed_in(request))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.weights_view)
        own = path("<path:object_id>/weights/", view, name="access_requests_gatedmodel_weights")
        return [own, *super().get_urls()]

    def weights_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set new sources for an existing model; readers keep the old weights until new ones are ready."""
        model = self._owned(request, object_id)
        if model is None:
            return self.not_there(request, object_id)
        form = SourcesForm(request.POST or None, initial=request.GET.dict())
        if request.method == "POST" and form.is_valid():
            try:
                prepared = _prepare_from_form(form.cleaned_data, signed_in(request), model.repo_id)
                update_model(model=model, prepared=prepared, actor=signed_in(request))
            except RuleError as error:
                say(request, error)
            else:
                messages.success(request, _("These are the model's weights from now on."))
                return redirect("admin:access_requests_gatedmodel_change", model.pk)
        return self._page(
            request,
            model,
            "weights",
            {
                "form": form,
                "title": _("Weights"),
                "plan": self.plan(model),
                "may_be_named": what_may_be_named(signed_in(request), model.namespace),
            },
        )
