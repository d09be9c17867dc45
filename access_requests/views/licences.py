"""Show whole licence texts, each version at its own permanent URL."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access_requests.models import LicenceVersion
from access_requests.services.catalogue.languages import current_licences
from access_requests.views.common import known_model


@require_safe
def licences(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the current texts."""
    model = known_model(request, namespace, name)
    texts = [text for licence in current_licences(model) for text in licence.texts]
    return render(request, "access_requests/licences.html", {"model": model, "licences": texts})


@require_safe
def licence(request: HttpRequest, namespace: str, name: str, pk: int) -> HttpResponse:
    """Show one version, current or not: what someone accepted must stay readable."""
    model = known_model(request, namespace, name)
    version = LicenceVersion.objects.filter(model=model, pk=pk).first()
    if version is None:
        raise Http404(f"{model} has no licence text {pk}.")
    return render(
        request, "access_requests/licences.html", {"model": model, "licences": [version], "single": True}
    )
