"""Serve the progress of a recovery, which pages poll every two seconds."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from access_requests.access.access import access_of
from access_requests.access.catalogue import find_model
from model_ops.panels import weights_context


@never_cache
@require_safe
def progress(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Return the progress of a model's weights to people who may read it; at the end the page reloads."""
    model = find_model(f"{namespace}/{name}")
    if model is None or not access_of(request.user, model).allowed:
        raise Http404(_("There is no progress of %(model)s to show here.") % {"model": f"{namespace}/{name}"})
    context = weights_context(model, request)
    response = render(request, "model_ops/progress.html", context)
    if not context["moving"]:
        response["HX-Refresh"] = "true"
    return response
