"""Add models with their weights, and publish changes to them: all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model

from access_requests.errors import Invalid
from access_requests.models import GatedModel
from access_requests.services.catalogue import gated_models
from access_requests.services.catalogue.edit import AddedLicence, add_licence
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.event_log.append import recorded
from access_requests.services.locks import share_store
from model_ops.models import ModelWeights, Revision
from model_ops.queries import published
from model_ops.services.recoveries.weights import (
    PreparedWeights,
    attach_weights,
    lock_shared_row,
    want_recovery,
)
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.sources.rights import check_may_add

if TYPE_CHECKING:
    from portal.accounts.models import User


def add_model_with_weights(
    *, repo_id: str, prepared: PreparedWeights, actor: User | None = None, **fields: Any
) -> tuple[GatedModel, ModelWeights]:
    """Add a catalogue entry whose `main` has the card and licences; the weights follow with the first grant.

    `fields` are those of `access_requests.services.catalogue.gated_models.add_model`.
    """
    check_new(repo_id, asker=actor)
    card = gated_models.prepare_card(fields.pop("card"), repo_id=repo_id)
    with recorded():
        share_store()
        check_may_add(repo_id=repo_id, actor=actor)
        model = gated_models.add_model(repo_id=repo_id, card=card, actor=actor, **fields)
        weights = attach_weights(model=model, prepared=prepared, actor=actor)
    return model, weights


def check_new(repo_id: str, *, asker: User | None = None) -> None:
    """Refuse early what `add_model_with_weights` would refuse after reading gigabytes of headers.

    Like there, the error does not name a model that the asker may not know of.
    """
    gated_models.check_repo_id(repo_id)
    check_may_add(repo_id=repo_id, actor=asker)
    gated_models.check_free(repo_id, asker=asker)


def update_model(
    *,
    model: GatedModel,
    card: str | None = None,
    licences: Sequence[LicenceText] | None = None,
    prepared: PreparedWeights | None = None,
    actor: User | None = None,
) -> Revision:
    """Publish a new revision with what is given; unchanged weights stay the same blobs.

    New sources are recovered at once if someone already has access; until they are ready, `main` keeps the old
    weights.
    """
    had_weights = published(model) is not None
    fresh = None
    if card is not None:
        fresh = gated_models.prepare_card(card, repo_id=model.repo_id, replaces=model.card)
    with recorded():
        share_store()
        if prepared is not None:
            lock_shared_row(prepared)  # before the model's row
        if fresh is not None:
            gated_models.update_card(model=model, card=fresh, actor=actor)
        if licences is not None:
            gated_models.replace_licences(model=model, licences=licences, actor=actor)
        if prepared is not None:
            weights = attach_weights(model=model, prepared=prepared, actor=actor)
            if had_weights or model.grants.filter(closed_at=None).exists():
                want_recovery(recovery=weights.recovery)
        return publish_revision(model=model, actor=actor)


def add_licence_text(
    *, model: GatedModel, licence: LicenceText, must_accept: bool = False, actor: User | None = None
) -> AddedLicence:
    """Add a licence text, or a new version of one, and publish it as a file of the next revision."""
    with recorded():
        share_store()
        added = add_licence(model=model, licence=licence, must_accept=must_accept, actor=actor)
        if added.fresh:
            publish_revision(model=model, actor=actor)
    return added


def find_owner(email: str) -> User | None:
    """Return the account with that address; without an address the first superuser, or None if there is none."""
    people = get_user_model().objects.filter(is_active=True)
    if not email:
        return people.filter(is_superuser=True).order_by("pk").first()
    person = people.filter(email__iexact=email).first()
    if person is None:
        raise Invalid(f"{email} has no account here: ask them to sign up first, or give another --owner.")
    return person
