"""Create grants by approval or by an operator; end them when they expire or are revoked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from access_requests.access.access import live_grant
from access_requests.access.permissions import is_reviewer
from access_requests.enums import GrantSource
from access_requests.errors import Conflict, NotAllowed, NotFound
from access_requests.models import AccessRequest, GatedModel, Grant
from access_requests.services import tokens
from access_requests.services.catalogue.gated_models import check_days
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_grant, lock_person
from access_requests.signals import access_granted, access_recorded

if TYPE_CHECKING:
    from portal.accounts.models import User

AT_ONCE = 500  # expired grants that are read at a time
TURN = 60.0  # seconds for closing them


@dataclass(frozen=True)
class Granted:
    """The result of an operator's grant; the secret is known only now."""

    grant: Grant
    user: User
    secret: str | None
    new_account: bool


def grant_for_request(*, request: AccessRequest, source: GrantSource, actor: User | None) -> Grant:
    """Create the grant of an approved request, inside the decision's transaction, or extend a live grant."""
    days = request.model.grant_days
    grant = _close_ended(request.applicant, request.model)
    if grant is None:
        return _create_grant(
            days=days,
            model=request.model,
            user=request.applicant,
            request=request,
            source=source,
            granted_by=actor,
        )
    grant.ends_at = max(grant.ends_at, timezone.now() + timedelta(days=days))
    grant.request = request
    grant.save(update_fields=["ends_at", "request"])
    append_event(
        kind="grant.prolonged",
        actor=actor,
        by="policy",
        model=request.model,
        request=request,
        grant=grant,
        data={"until": grant.ends_at.isoformat()},
    )
    _announce_grant(grant)
    return grant


def grant_access(
    *, model: GatedModel, email: str, days: int, actor: User | None = None, token_name: str | None = None
) -> Granted:
    """Give access without a request: the operator vouches for the person, so no confirmation or licence is needed.

    With a `token_name` (unless it is None) a token is made. An unknown address gets an account and an
    invitation email.
    """
    check_days(days)
    with recorded():
        invited = import_string(settings.GATEHOUSE_INVITE)(email)
        user = invited.user
        grant = _create_vouched(model=model, user=user, days=days, actor=actor, named=email)
        secret = None
        if token_name is not None:
            secret = tokens.issue_token(grant=grant, user=user, name=token_name, actor=actor).secret
        if not user.has_usable_password():  # created just now, or invited earlier and never signed in
            queue_mail(
                key=f"invitation:{user.pk}:{grant.pk}",
                to=user.email,
                template="mails/invitation.txt",
                context={"person": user, "model": model, "grant": grant, "url": invited.url},
            )
        else:
            _tell_of_grant(grant)
    return Granted(grant, user, secret, invited.created)


def give_access(*, model: GatedModel, user: User, actor: User) -> Grant:
    """Give a person with an account access without a request, for the length of the model's grants."""
    with recorded():
        grant = _create_vouched(
            model=model, user=user, days=model.grant_days, actor=actor, named=user.username
        )
        _tell_of_grant(grant)
    return grant


def _create_vouched(*, model: GatedModel, user: User, days: int, actor: User | None, named: str) -> Grant:
    if not model.is_gated:
        raise Conflict(_("%(model)s is not gated: anyone may read it.") % {"model": model})
    if not lock_person(user.pk).is_active:
        raise Conflict(
            _("The account of %(person)s is disabled: enable it in the admin first.") % {"person": named}
        )
    if live := _close_ended(user, model):
        raise Conflict(
            _("%(person)s already has access to %(model)s until %(day)s: revoke that first.")
            % {"person": named, "model": model, "day": f"{live.ends_at:%Y-%m-%d}"}
        )
    return _create_grant(
        days=days, model=model, user=user, request=None, source=GrantSource.OPERATOR, granted_by=actor
    )


def _tell_of_grant(grant: Grant) -> None:
    queue_mail(
        key=f"granted:{grant.pk}",
        to=grant.user.email,
        template="mails/granted.txt",
        context={"person": grant.user, "model": grant.model, "grant": grant},
    )


def revoke_access(*, model: GatedModel, user: User, reason: str = "", actor: User | None = None) -> Grant:
    """End the live grant at once, with all its tokens, and email the person.

    Without an actor, an operator does it. Raises `NotAllowed` for an actor who may not decide for the model, and `NotFound`
    without a live grant.
    """
    if actor is not None and not is_reviewer(actor, model):
        raise NotAllowed(_("You are not a reviewer of %(model)s: ask its owner.") % {"model": model})
    with recorded():
        grant = end_access(model=model, user=user, reason=reason, actor=actor)
        if grant is None:
            raise NotFound(
                _("%(person)s does not have access to %(model)s, so there is nothing to revoke.")
                % {"person": user.username, "model": model}
            )
        queue_mail(
            key=f"revoked:{grant.pk}",
            to=user.email,
            template="mails/revoked.txt",
            context={"person": user, "model": model, "grant": grant},
        )
    return grant


def end_access(*, model: GatedModel, user: User, reason: str, actor: User | None) -> Grant | None:
    """End the live grant, if any, inside the caller's `recorded()`; the caller informs the person."""
    lock_person(user.pk)
    live = live_grant(user, model)
    grant = lock_grant(live.pk) if live else None
    if grant is None or grant.closed_at is not None:
        return None
    now = timezone.now()
    grant.revoked_at = grant.closed_at = now
    grant.revoked_by, grant.revoke_reason = actor, reason.strip()
    grant.save(update_fields=["revoked_at", "closed_at", "revoked_by", "revoke_reason"])
    append_event(
        kind="grant.revoked",
        actor=actor,
        by="operator",
        model=model,
        request=grant.request,
        grant=grant,
        data={"reason": grant.revoke_reason},
    )
    return grant


def close_ended_grants(*, turn: float = TURN) -> int:
    """Log the end of expired grants, whose access has already ended by the clock; return how many.

    Closes `AT_ONCE` grants at a time, the earliest first, for at most `turn` seconds. The next run continues,
    so that other work can run in between.
    """
    closed, until = 0, time.monotonic() + turn
    while True:
        ended = Grant.objects.filter(closed_at__isnull=True, ends_at__lte=timezone.now())
        rows = list(ended.order_by("ends_at").values_list("pk", "user")[:AT_ONCE])
        done = sum(_close_grant(pk, person) for pk, person in rows)
        closed += done
        if not done or time.monotonic() > until:
            break
    return closed


def _close_grant(pk: int, person: int) -> bool:
    with recorded():
        lock_person(person)
        grant = (
            Grant.objects.select_for_update(no_key=True, of=("self",), skip_locked=True)
            .select_related("model", "request")
            .filter(pk=pk, closed_at__isnull=True, ends_at__lte=timezone.now())
            .first()
        )
        if grant is None:
            return False
        grant.closed_at = timezone.now()
        grant.save(update_fields=["closed_at"])
        append_event(kind="grant.expired", model=grant.model, request=grant.request, grant=grant)
        return True


def _close_ended(user: User, model: GatedModel) -> Grant | None:
    """Make room for a new grant: close an expired one; return a live one, locked."""
    grant = (
        Grant.objects.select_for_update(no_key=True, of=("self",))
        .filter(user=user, model=model, closed_at__isnull=True)
        .first()
    )
    if grant is not None and not grant.is_live():
        _close_grant(grant.pk, user.pk)
        return None
    return grant


def _create_grant(*, days: int, **fields: Any) -> Grant:
    now = timezone.now()
    grant = Grant.objects.create(starts_at=now, ends_at=now + timedelta(days=days), **fields)
    append_event(
        kind="grant.created",
        actor=grant.granted_by,
        by="policy" if grant.source == GrantSource.POLICY else "operator",
        model=grant.model,
        request=grant.request,
        grant=grant,
        data={
            "source": grant.source,
            "person": grant.user.username,
            "until": grant.ends_at.isoformat(),
            **({"vouched": True} if grant.source == GrantSource.OPERATOR else {}),
        },
    )
    _announce_grant(grant)
    return grant


def _announce_grant(grant: Grant) -> None:
    access_recorded.send(sender=Grant, grant_id=grant.pk)
    transaction.on_commit(lambda: access_granted.send_robust(sender=Grant, grant_id=grant.pk), robust=True)
