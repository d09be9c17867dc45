"""Require holders of grants to accept a text before further downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.access.access import live_grant
from access_requests.access.standing import owed_licences, owing
from access_requests.enums import DECIDING_ROLES
from access_requests.errors import Conflict, Invalid
from access_requests.models import GatedModel, Grant, LicenceAcceptance, LicenceVersion, ModelRole
from access_requests.services.catalogue.languages import accepted_licences, current_licences
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import keep_model, lock_model, lock_person

if TYPE_CHECKING:
    from portal.accounts.models import User


def demand_licence(*, licence: LicenceVersion, actor: User | None = None) -> int:
    """Require every holder of a live grant to accept this text, email them, and return how many there are.

    A later version counts too. Running downloads continue. People who accepted this version with their request, and owners
    and reviewers, owe nothing. Idempotent.
    """
    with recorded():
        lock_model(licence.model_id)
        locked = (
            LicenceVersion.objects.select_for_update(no_key=True, of=("self",))
            .select_related("model")
            .get(pk=licence.pk)
        )
        if locked.retired_at is not None:
            raise Conflict(
                _("%(licence)s was retired: choose the text that replaced it.") % {"licence": locked}
            )
        if not locked.binding:
            raise Conflict(
                _("%(licence)s is a translation: require the text that binds, or make this language binding.")
                % {"licence": locked}
            )
        if locked.must_accept_at == locked.created_at:
            return 0
        locked.must_accept_at = licence.must_accept_at = locked.created_at
        locked.save(update_fields=["must_accept_at"])
        append_event(
            kind="licence.demanded",
            actor=actor,
            by="operator",
            model=locked.model,
            data={"licence": locked.pk, "sha256": locked.sha256},
        )
        return _email_holders(locked)


def _email_holders(licence: LicenceVersion) -> int:
    """Email the people who cannot download from now on; return how many, emailed or not."""
    now = timezone.now()
    roles = ModelRole.objects.filter(model=licence.model, user=OuterRef("user"), role__in=DECIDING_ROLES)
    live = Grant.objects.filter(model=licence.model, revoked_at=None, starts_at__lte=now, ends_at__gt=now)
    holders = list(
        owing(live)
        .filter(~Exists(roles), ~Q(user__is_superuser=True), owes=True, user__is_active=True)
        .select_related("user")
        .order_by("pk")
    )
    for grant in holders:
        if grant.user.email:
            queue_mail(
                key=f"licence:{licence.pk}:{grant.pk}",
                to=grant.user.email,
                template="mails/licence.txt",
                context={"person": grant.user, "model": licence.model, "licence": licence},
            )
    return len(holders)


def accept_licences(
    *, model: GatedModel, user: User, shown: Sequence[int], agreed: bool = True
) -> list[LicenceAcceptance]:
    """Store that a holder accepts the texts that they owe; downloads work again at once. Idempotent.

    `shown` are the ids of the texts on the page, in any language: if another licence is owed, nothing is accepted and the
    person must read again.
    """
    with recorded():
        lock_person(user.pk)
        keep_model(model.pk)
        grant = live_grant(user, model)
        if grant is None:
            raise Conflict(
                _("Your access to %(model)s has ended, so there is nothing to agree to: see %(address)s")
                % {"model": model, "address": model.address()}
            )
        owed = owed_licences(grant)
        read = accepted_licences([one for one in current_licences(model) if one.binding in owed], shown)
        if owed and not agreed:
            raise Invalid(_("Tick the box to agree. You cannot download until you do."), field="agree")
        made = [
            LicenceAcceptance.objects.create(
                user=user,
                licence=one.text,
                language=one.text.language,
                sha256=one.text.sha256,
                binding=one.binding,
                binding_sha256=one.binding.sha256,
            )
            for one in read
        ]
        if made:
            append_event(
                kind="licence.accepted",
                actor=user,
                model=model,
                request=grant.request,
                grant=grant,
                data={
                    "licences": [one.text.sha256 for one in read],
                    "binding": [one.binding.sha256 for one in read],
                },
            )
    return made
