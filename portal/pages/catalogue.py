"""The first page: the models, and where the visitor stands with each."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access_requests.access.access import codes_for
from access_requests.access.catalogue import visible_models
from access_requests.access.compiled_query import SAMPLE_NUMBERS, CompiledQuery
from access_requests.models import GatedModel
from access_requests.search import AnyOf
from access_requests.services.catalogue.rendered_texts import card_page_of
from access_requests.storable_text import drop_unstorable
from portal.pages.card import facts
from portal.pages.standing import badge_of

PER_PAGE = 25
LONGEST_SEARCH = 200
MOST_FOUND = 10_000  # models that a visitor can page through
SHORTEST_IN_CARDS = 3  # letters: the indexes on names and cards hold groups of three


@dataclass(frozen=True)
class Entry:
    model: GatedModel
    summary: str
    facts: list[tuple[str, str]]
    badge: tuple[str, str] | None


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """Show the models this visitor may know about, by name; `q` searches names and cards.

    One query finds the keys in order; cards and badges are read only for the models on the page.
    """
    words = drop_unstorable(request.GET.get("q", "")).strip()[:LONGEST_SEARCH]
    found = visible_models(request.user)
    for word in words.split():  # each in the name or the card; short ASCII words in the card's summary
        is_long = len(word) >= SHORTEST_IN_CARDS or not word.isascii()  # 王伟 is a whole name
        in_card = "card" if is_long else "rendered_card__summary"
        found = found.filter(Q(repo_id__icontains=word) | Q(**{f"{in_card}__icontains": word}))
    keys = list(found.order_by(Lower("repo_id")).values_list("pk", flat=True)[:MOST_FOUND])
    page = Paginator(keys, PER_PAGE).get_page(request.GET.get("page"))
    by_key = {model.pk: model for model in _models_among(models=list(page.object_list))}
    shown = [by_key[key] for key in page.object_list if key in by_key]
    codes = codes_for(request.user, shown)
    entries = [
        Entry(model, card_page_of(model).summary, facts(model), badge_of(codes[model.pk])) for model in shown
    ]
    return render(request, "portal/catalogue.html", {"entries": entries, "page": page, "words": words})


_models_among = CompiledQuery(
    lambda models: (
        GatedModel.objects.filter(AnyOf(F("pk"), models))
        .select_related("rendered_card")
        .defer("card", "rendered_card__html", "rendered_card__chat_format")
        .order_by()
    ),
    models=SAMPLE_NUMBERS,
)
