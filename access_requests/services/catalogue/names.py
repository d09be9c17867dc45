"""Change the names of models and namespaces: a model's id, its former ids, a namespace's full name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.utils.translation import gettext as _

from access_requests.access.catalogue import find_model
from access_requests.enums import Role
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import FormerId, GatedModel, ModelRole, Namespace
from access_requests.rendering.texts import render_card
from access_requests.services.catalogue.gated_models import check_free, check_namespace, check_repo_id
from access_requests.services.catalogue.rendered_texts import keep_card_page
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model, lock_names
from access_requests.storable_text import drop_unstorable

if TYPE_CHECKING:
    from portal.accounts.models import User

LONGEST_FULL_NAME = 200


def rename_model(
    *, model: GatedModel, to: str, keep_old: bool = True, actor: User | None = None
) -> GatedModel:
    """Give the model another id; the old one redirects clients and pages to it, unless `keep_old` is false."""
    check_repo_id(to)
    rendered = GatedModel.objects.values_list("card", flat=True).get(pk=model.pk)
    page = render_card(card=rendered, repo_id=to)  # the card's relative links lead to the new name
    with recorded():
        lock_names()
        locked = lock_model(model.pk)
        old = locked.repo_id
        if to == old:
            raise Conflict(_("%(id)s is already its name.") % {"id": old}, field="repo_id")
        namespace = to.partition("/")[0]
        if actor is not None and not actor.is_superuser and namespace.lower() != locked.namespace.lower():
            # Only superusers and operators may move a model to a namespace where its owner has none yet.
            owned = ModelRole.objects.filter(user=actor, role=Role.OWNER)
            if not owned.filter(model__repo_id__istartswith=f"{namespace}/").exists():
                raise NotAllowed(
                    _("You own no model of %(namespace)s: ask an administrator to move it there.")
                    % {"namespace": namespace},
                    field="repo_id",
                )
        check_free(to, besides=locked, asker=actor)
        _former_ids(to).delete()
        if keep_old and to.lower() != old.lower():
            FormerId.objects.create(model=locked, repo_id=old)
        locked.repo_id = model.repo_id = to
        locked.save(update_fields=["repo_id", "updated_at"])
        if locked.card == rendered:
            keep_card_page(model=locked, page=page)
        else:  # the card was changed in the meantime, and its links lead to the old name
            GatedModel.objects.filter(pk=locked.pk).update(card_renderer=0)
        _append_name_event("model.renamed", model, {"from": old, "to": to, "redirects": keep_old}, actor)
    return model


def let_go_of_name(*, repo_id: str, actor: User | None = None) -> GatedModel:
    """End the redirect from a former id, so that another model can have it; return the model that had it."""
    with recorded():
        lock_names()
        former = _former_ids(repo_id).select_related("model").first()
        if former is None:
            known = find_model(repo_id)
            what = f"{known} is a model's name today" if known else f"No model was ever called {repo_id}"
            raise NotFound(f"{what}: name a former id.")
        former.delete()
        _append_name_event("model.name_let_go", former.model, {"name": former.repo_id}, actor)
    return former.model


def name_namespace(*, name: str, full_name: str) -> Namespace:
    """Set the full name that clients show for a namespace."""
    check_namespace(name)
    full_name = " ".join(full_name.split())
    if not full_name or len(full_name) > LONGEST_FULL_NAME or not full_name.isprintable():
        raise Invalid(f"A full name has 1 to {LONGEST_FULL_NAME} printable characters.", field="full_name")
    with transaction.atomic():
        lock_names()
        found = Namespace.objects.filter(Exact(Lower("name"), name.lower())).first() or Namespace(name=name)
        found.full_name = full_name
        found.save()
    return found


def _former_ids(repo_id: str) -> QuerySet[FormerId]:
    return FormerId.objects.filter(Exact(Lower("repo_id"), drop_unstorable(repo_id).lower()))


def _append_name_event(kind: str, model: GatedModel, data: dict[str, object], actor: User | None) -> None:
    append_event(kind=kind, actor=actor, by="operator", model=model, data=data)
