"""What every page about a model does first."""

from __future__ import annotations

from django.http import Http404, HttpRequest

from access_requests.models import GatedModel
from access_requests.queries import find_model, may_know_of


def known_model(request: HttpRequest, namespace: str, name: str) -> GatedModel:
    """The model if this visitor may know of it; else 404, the same for a hidden one as for none."""
    model = find_model(f"{namespace}/{name}")
    if model is None or not may_know_of(request.user, model):
        raise Http404(f"There is no model {namespace}/{name} here.")
    return model
