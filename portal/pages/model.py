"""A model's page: first of all where the visitor stands and what happens next, then the card."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from access_requests.markdown import render_markdown
from access_requests.panels import MODEL_PANELS, show_panels
from access_requests.permissions import is_owner
from access_requests.views.common import known_model
from portal.pages.card import card_body, chat_format, facts, summary
from portal.pages.commands import commands
from portal.pages.standing import standing_of


@never_cache
@require_safe
def model_page(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """What every message of the portal links to."""
    model = known_model(request, namespace, name)
    body = card_body(model)
    context = {
        "model": model,
        "standing": standing_of(request.user, model),
        "summary": summary(body),
        "card": render_markdown(body, base=f"/{model.repo_id}/resolve/main/"),
        "facts": facts(model),
        "licences": model.licence_versions.filter(retired_at__isnull=True).defer("text"),
        "panels": show_panels(MODEL_PANELS, model, request),
        "commands": commands(model),
        "chat_format": chat_format(body),
        "owns": is_owner(request.user, model),
    }
    return render(request, "portal/model.html", context)
