"""Families: models of one namespace that people can ask for with one form."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from access_requests.access.permissions import is_owner
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import GatedModel, ModelFamily
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model
from access_requests.storable_text import drop_unstorable

if TYPE_CHECKING:
    from portal.accounts.models import User

LONGEST_NAME = 100
MOST_MODELS = 20  # of one family


def set_family(
    *, model: GatedModel, name: str, others: Collection[GatedModel], actor: User | None = None
) -> ModelFamily:
    """Make a family of this model and the others, or change the one that it belongs to, and return it.

    Models that are left out belong to no family any more. Without an actor, an operator does it. Raises `Invalid` for a name that
    is missing or too long, no or too many others, and a model of another namespace; `NotAllowed` for a model that the actor does not
    own; `Conflict` for a model of another family.
    """
    name = " ".join(drop_unstorable(name).split())
    if not name or len(name) > LONGEST_NAME:
        raise Invalid(
            _("Give the family a name of at most %(most)s characters.") % {"most": LONGEST_NAME}, field="name"
        )
    chosen = {one.pk for one in others} - {model.pk}
    if not chosen or len(chosen) >= MOST_MODELS:
        raise Invalid(_("Choose 1 to %(most)s other models.") % {"most": MOST_MODELS - 1}, field="others")
    with recorded():
        current = GatedModel.objects.values_list("family", flat=True).get(pk=model.pk)
        before = set(
            GatedModel.objects.filter(family=current, family__isnull=False).values_list("pk", flat=True)
        )
        locked = {pk: lock_model(pk) for pk in sorted({model.pk, *chosen, *before})}
        if locked[model.pk].family_id != current:
            raise Conflict(
                _("The family of %(model)s was changed meanwhile: look at it again.") % {"model": model}
            )
        _check_members([locked[pk] for pk in (model.pk, *sorted(chosen))], locked[model.pk], actor)
        family = locked[model.pk].family or ModelFamily(namespace=model.namespace)
        family.name = name
        family.save()
        for pk, one in locked.items():
            wanted = family if pk in chosen or pk == model.pk else None
            if one.family != wanted:
                _move(one, wanted, actor)
    model.family = family
    return family


def end_family(*, model: GatedModel, actor: User | None = None) -> None:
    """End the family that the model belongs to; requests that were made together stay linked. Idempotent."""
    with recorded():
        family = lock_model(model.pk).family
        if family is None:
            return
        if actor is not None and not is_owner(actor, model):
            raise NotAllowed(_("Only an owner of %(model)s may change its family.") % {"model": model})
        for pk in family.models.order_by("pk").values_list("pk", flat=True):
            _move(lock_model(pk), None, actor)
        family.delete()
    model.family = None


def _check_members(members: list[GatedModel], model: GatedModel, actor: User | None) -> None:
    for one in members:
        if one.namespace.lower() != model.namespace.lower():
            raise Invalid(
                _("%(model)s is not in %(namespace)s: a family has models of one namespace.")
                % {"model": one, "namespace": model.namespace},
                field="others",
            )
        if actor is not None and not is_owner(actor, one):
            raise NotAllowed(_("Only an owner of %(model)s may change its family.") % {"model": one})
        if one.family_id not in (None, model.family_id):
            raise Conflict(
                _("%(model)s belongs to the family “%(family)s”: take it out there first.")
                % {"model": one, "family": one.family.name if one.family else ""},
                field="others",
            )


def _move(model: GatedModel, family: ModelFamily | None, actor: User | None) -> None:
    model.family = family
    model.save(update_fields=["family", "updated_at"])
    append_event(
        kind="model.family_changed",
        actor=actor,
        by="operator",
        model=model,
        data={"name": family.name if family else None},
    )
