"""A model's page: where the visitor stands and what happens next, followed by the card."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from access_requests.access.permissions import is_owner
from access_requests.panels import MODEL_PANELS, show_panels
from access_requests.services.catalogue.rendered_texts import card_page_of
from access_requests.views.common import known_model
from access_requests.views.messages import thread_for
from portal.pages.card import facts
from portal.pages.commands import commands
from portal.pages.standing import standing_of


@never_cache
@require_safe
def model_page(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the model's page, which every message of the portal links to."""
    model = known_model(request, namespace, name)
    page, owns = card_page_of(model), is_owner(request.user, model)
    context = {
        "model": model,
        "standing": standing_of(request.user, model),
        "thread": thread_for(request.user, model),
        "summary": page.summary,
        "card": mark_safe(page.html),  # noqa: S308 - cleaned by nh3 when it was made
        "facts": facts(model),
        "licences": model.licence_versions.filter(retired_at__isnull=True)
        .order_by("name", "-binding", "pk")
        .defer("text"),
        "panels": show_panels(MODEL_PANELS, model, request),
        "commands": commands(model),
        "chat_format": page.chat_format,
        "owns": owns,
        "card_problem": page.problem if owns else "",
    }
    return render(request, "portal/model.html", context)
