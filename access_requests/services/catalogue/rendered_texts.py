"""Store what `rendering.texts` makes of cards and forms, and render again what an older renderer made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from django.db import transaction
from django.db.models import Q, QuerySet

from access_requests.cards import GateForm
from access_requests.models import FormVersion, GatedModel, RenderedCard
from access_requests.rendering.texts import (
    RENDERER,
    CardPage,
    GateTexts,
    render_card,
    render_gate,
    unrendered_card,
    unrendered_gate,
)


def keep_card_page(*, model: GatedModel, page: CardPage) -> None:
    """Store what pages show of the model's card.

    A page made from a different card or id than the model has now must have `renderer=0`, so that it is
    rendered again.
    """
    RenderedCard.objects.update_or_create(
        model=model,
        defaults={
            "html": page.html,
            "summary": page.summary,
            "chat_format": page.chat_format,
            "problem": page.problem,
        },
    )
    model.card_renderer = page.renderer
    GatedModel.objects.filter(pk=model.pk).update(card_renderer=page.renderer)


def card_page_of(model: GatedModel) -> CardPage | RenderedCard:
    """Return what pages show of a card: its rendered page, or the card as written until that exists."""
    try:
        return model.rendered_card
    except RenderedCard.DoesNotExist:
        return unrendered_card(card=model.card, repo_id=model.repo_id)


def gate_texts_of(version: FormVersion) -> GateTexts:
    """Return what pages show of a form: its rendered texts, or the texts as written until those exist."""
    if version.texts:
        return GateTexts(**version.texts)
    return unrendered_gate(GateForm.from_json(version.schema))


def render_outdated(*, everything: bool = False, seconds: float | None = None) -> tuple[int, int]:
    """Render the cards and forms that this version has not rendered yet; return how many of each.

    With `everything`, render up-to-date ones as well. With `seconds`, start no further text after that time.
    Rendering holds no lock. If a card changes in the meantime, the process that changed it renders it.
    """
    cards = outdated_cards() if not everything else GatedModel.objects.all()
    forms = outdated_forms() if not everything else FormVersion.objects.all()
    until = None if seconds is None else time.monotonic() + seconds
    done = _render_each(cards.order_by().values_list("pk", flat=True), _render_card, until)
    return done, _render_each(forms.order_by().values_list("pk", flat=True), _render_form, until)


def outdated_cards() -> QuerySet[GatedModel]:
    """Return the models whose card is not rendered yet, or was rendered by another renderer."""
    return GatedModel.objects.filter(_by_another("card_renderer"))


def outdated_forms() -> QuerySet[FormVersion]:
    """Return the forms whose texts are not rendered yet, or were rendered by another renderer."""
    return FormVersion.objects.filter(_by_another("renderer"))


def _by_another(field: str) -> Q:
    """Return a filter with two ranges of the field's index: for "not equal" PostgreSQL would read every row."""
    return Q(**{f"{field}__lt": RENDERER}) | Q(**{f"{field}__gt": RENDERER})


def _render_each(keys: Iterable[int], render: Callable[[int], bool], until: float | None) -> int:
    done = 0
    for pk in keys:
        if until is not None and time.monotonic() >= until:
            break
        done += render(pk)
    return done


def _render_card(pk: int) -> bool:
    model = GatedModel.objects.filter(pk=pk).first()
    if model is None:
        return False
    page = render_card(card=model.card, repo_id=model.repo_id)
    with transaction.atomic():
        now = GatedModel.objects.select_for_update(no_key=True).filter(pk=pk).first()
        if now is None or (now.card, now.repo_id) != (model.card, model.repo_id):
            return False
        keep_card_page(model=now, page=page)
    return True


def _render_form(pk: int) -> bool:
    version = FormVersion.objects.filter(pk=pk).first()
    if version is None:
        return False
    texts = render_gate(GateForm.from_json(version.schema))
    kept = FormVersion.objects.filter(pk=pk).update(texts=texts.to_json(), renderer=texts.renderer)
    return bool(kept)
