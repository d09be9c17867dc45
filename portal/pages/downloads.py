"""The download log: a person's own, and a model's for its owners and reviewers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from access_requests.access.permissions import has_role
from access_requests.models import GatedModel
from access_requests.views.common import known_model, signed_in
from model_ops import download_log
from model_ops.download_log import Rows

DAY = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")


class OwnFilter(forms.Form):
    model = forms.CharField(required=False, max_length=200, label=gettext_lazy("Model"))
    since = forms.DateField(required=False, label=pgettext_lazy("first day", "From"), widget=DAY)
    until = forms.DateField(required=False, label=gettext_lazy("To"), widget=DAY)


class ModelFilter(forms.Form):
    person = forms.CharField(
        required=False,
        max_length=254,
        label=gettext_lazy("Person"),
        help_text=gettext_lazy("A user name or an email address."),
    )
    since = forms.DateField(required=False, label=pgettext_lazy("first day", "From"), widget=DAY)
    until = forms.DateField(required=False, label=gettext_lazy("To"), widget=DAY)


@login_required
@never_cache
@require_safe
def my_downloads(request: HttpRequest) -> HttpResponse:
    """Show what was downloaded with this person's tokens."""
    return _render_downloads(
        request, download_log.of_person(signed_in(request)), OwnFilter(request.GET), model=None
    )


@login_required
@never_cache
@require_safe
def my_downloads_csv(request: HttpRequest) -> HttpResponseBase:
    return _stream_csv(
        request, download_log.of_person(signed_in(request)), OwnFilter(request.GET), name="my-downloads"
    )


@login_required
@never_cache
@require_safe
def model_downloads(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show what was downloaded of a model to its owners and reviewers."""
    model = _reviewed_model(request, namespace, name)
    return _render_downloads(request, download_log.of_model(model), ModelFilter(request.GET), model=model)


@login_required
@never_cache
@require_safe
def model_downloads_csv(request: HttpRequest, namespace: str, name: str) -> HttpResponseBase:
    model = _reviewed_model(request, namespace, name)
    return _stream_csv(
        request, download_log.of_model(model), ModelFilter(request.GET), name=f"{model.name}-downloads"
    )


def _reviewed_model(request: HttpRequest, namespace: str, name: str) -> GatedModel:
    model = known_model(request, namespace, name)
    if not has_role(request.user, model):
        raise Http404(f"There is no download log of {model} to show you.")
    return model


def _render_downloads(
    request: HttpRequest, rows: Rows, form: forms.Form, *, model: GatedModel | None
) -> HttpResponse:
    chosen = _chosen_filters(form)
    rows = download_log.narrowed(rows, **chosen) if form.is_valid() else rows.none()
    query = request.GET.copy()
    query.pop("before", None)
    context: dict[str, Any] = {
        "model": model,
        "form": form,
        "page": download_log.page_of(rows, before=request.GET.get("before", "")),
        "totals": download_log.totals(rows),
        "narrowed": any(chosen.values()) or not form.is_valid(),
        "query": query.urlencode(),
        "is_first": "before" not in request.GET,
    }
    return render(request, "portal/downloads.html", context, status=200 if form.is_valid() else 422)


def _stream_csv(request: HttpRequest, rows: Rows, form: forms.Form, *, name: str) -> HttpResponseBase:
    """Stream the same rows, without paging, as CSV."""
    if not form.is_valid():
        sentence = _("The days cannot be read: write them as YYYY-MM-DD.")
        return HttpResponse(f"{sentence}\n", content_type="text/plain; charset=utf-8", status=422)
    lines = download_log.as_csv(
        download_log.narrowed(rows, **_chosen_filters(form)), people="person" in form.fields
    )
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    day = timezone.now().strftime("%Y-%m-%d")
    response["Content-Disposition"] = f'attachment; filename="{name}-{day}.csv"'
    return response


def _chosen_filters(form: forms.Form) -> dict[str, Any]:
    return dict(form.cleaned_data) if form.is_valid() else {}
