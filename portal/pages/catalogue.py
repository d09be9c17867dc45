"""The first page: what can be asked for, and where the visitor stands with each."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access_requests.models import GatedModel
from access_requests.queries import codes_for, visible_models
from access_requests.services.rendering import card_page_of
from portal.pages.card import facts
from portal.pages.standing import BADGES

PER_PAGE = 25
LONGEST_SEARCH = 200


@dataclass(frozen=True)
class Entry:
    model: GatedModel
    summary: str
    facts: list[tuple[str, str]]
    badge: tuple[str, str] | None


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """The models this visitor may know of, by name; `q` searches names and cards."""
    words = request.GET.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH]
    models = visible_models(request.user).order_by("repo_id").select_related("rendered_card")
    models = models.defer("rendered_card__html", "rendered_card__chat_format")
    for word in words.split():
        models = models.filter(Q(repo_id__icontains=word) | Q(card__icontains=word))
    page = Paginator(models, PER_PAGE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    codes = codes_for(request.user, shown)
    entries = [
        Entry(model, card_page_of(model).summary, facts(model), BADGES.get(codes[model.pk]))
        for model in shown
    ]
    return render(request, "portal/catalogue.html", {"entries": entries, "page": page, "words": words})
