"""Take grants to readable weights: everyone who waits is informed once, even if messages are lost."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from access_requests.access.compiled_query import SAMPLE_NUMBER, SAMPLE_NUMBERS, CompiledQuery
from access_requests.access.permissions import people_to_tell
from access_requests.models import Grant
from access_requests.search import AnyOf
from access_requests.services.emails.write import queue_mail
from access_requests.services.queue import enqueue_on_commit
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery, ModelWeights, Recovery, Ref
from model_ops.queries import MAIN, current_recovery, published
from model_ops.services.recoveries.weights import ENDED_BADLY, want_recovery

log = logging.getLogger(__name__)

DELIVER = "model_ops.tasks.deliver_grant_task"
AT_ONCE = 200  # rows per look
LOOKED_AT = "deliveries-looked-at"  # the last row of the last look; without the cache each look starts with the oldest


def note_delivery(*, grant_id: int) -> None:
    """Record in the grant's own transaction that it waits for weights, so that every grant has this row."""
    Delivery.objects.bulk_create([Delivery(grant_id=grant_id)], ignore_conflicts=True)


def expect_delivery(*, grant_id: int) -> None:
    """Wake a worker for a grant that is committed."""
    enqueue_on_commit(DELIVER, grant_id)


def deliver_grant(*, grant_id: int) -> None:
    """Move one grant forward: email that its weights are ready or failed, or request their recovery."""
    with transaction.atomic():
        grant = Grant.objects.filter(pk=grant_id, closed_at=None).first()
        if grant is None or not grant.is_live():
            return
        Delivery.objects.get_or_create(grant=grant)  # its message may come before its row
        locked = Delivery.objects.select_for_update(no_key=True, of=("self",))
        delivery = locked.select_related("grant__model", "grant__user").get(grant=grant)
        if delivery.state == DeliveryState.READY:
            return
        recovery = current_recovery(delivery.grant.model)
        if published(delivery.grant.model):
            _tell_ready(delivery)
            return
        if recovery and recovery.state in ENDED_BADLY:
            _tell_failed(delivery, recovery)
            return
    if recovery:  # outside the lock: a recovery that ends locks its own row first, then the deliveries
        want_recovery(recovery=recovery)


def tell_ended(*, recovery: Recovery) -> None:
    """Email everyone who waits for this recovery, and its owners if it failed, in the caller's transaction."""
    if recovery.state != RecoveryState.READY:
        for weights in recovery.weights.filter(replaced_at=None).select_related("model"):
            for person in people_to_tell(weights.model, owners_only=True):
                queue_mail(
                    key=f"recovery-failed:{recovery.pk}:{recovery.attempts}:{weights.model_id}:{person.pk}",
                    to=person.email,
                    template="mails/recovery_failed.txt",
                    context={"model": weights.model, "recovery": recovery, "person": person},
                )
    waiting = Delivery.objects.select_for_update(no_key=True, of=("self",)).select_related(
        "grant__model", "grant__user"
    )
    current = Q(grant__model__weights__recovery=recovery, grant__model__weights__replaced_at=None)
    for delivery in (
        waiting.filter(current, grant__closed_at=None).exclude(state=DeliveryState.READY).order_by("pk")
    ):
        if recovery.state == RecoveryState.READY:
            _tell_ready(delivery)
        else:
            _tell_failed(delivery, recovery)


def _tell_ready(delivery: Delivery) -> None:
    grant = delivery.grant
    queue_mail(
        key=f"ready:{grant.pk}",
        to=grant.user.email,
        template="mails/weights_ready.txt",
        context={"grant": grant, "model": grant.model, "person": grant.user},
    )
    _note_told(delivery, DeliveryState.READY)


def _tell_failed(delivery: Delivery, recovery: Recovery) -> None:
    grant = delivery.grant
    if recovery.state == RecoveryState.CANCELLED or published(grant.model):
        return
    queue_mail(
        key=f"weights-failed:{grant.pk}:{recovery.pk}:{recovery.attempts}",
        to=grant.user.email,
        template="mails/weights_failed.txt",
        context={"grant": grant, "model": grant.model, "person": grant.user},
    )
    _note_told(delivery, DeliveryState.FAILED)


def _note_told(delivery: Delivery, state: DeliveryState) -> None:
    delivery.state, delivery.told_at = state, timezone.now()
    delivery.save(update_fields=["state", "told_at"])


def resume_deliveries() -> int:
    """Move grants forward whose message was lost; return how many. A failing grant does not block others.

    Looks at `AT_ONCE` waiting grants, and at the next ones the next time: most of them move forward by
    themselves. Raises if the database is unavailable.
    """
    waiting = _next_waiting()
    over = [pk for pk, _, _, closed_at in waiting if closed_at]
    if over:
        Delivery.objects.filter(pk__in=over, state=DeliveryState.WAITING).update(state=DeliveryState.OVER)
    # Models whose waiting grants can move forward: published, not wanted yet, or ended badly.
    models = sorted({model for _, _, model, _ in waiting})
    movable = set[int]()
    for find in (_published, _in_need) if models else ():
        movable |= {model for (model,) in find(models=models)}
    todo = sorted(grant for _, grant, model, closed_at in waiting if model in movable and not closed_at)
    done = 0
    for grant_id in todo:
        try:
            deliver_grant(grant_id=grant_id)
        except Exception:
            if not connection.is_usable():
                raise
            log.exception("Grant %s could not be delivered", grant_id)  # the next look tries again
        else:
            done += 1
    return done


def _next_waiting() -> list[tuple[int, int, int, datetime | None]]:
    """Return (delivery, grant, model, end of the grant), starting where the last look ended and wrapping around."""
    after = cache.get(LOOKED_AT) or 0
    found = _waiting_after(after=after)[:AT_ONCE]
    if after and len(found) < AT_ONCE:
        found += [row for row in _waiting_after(after=0) if row[0] <= after][: AT_ONCE - len(found)]
    cache.set(LOOKED_AT, found[-1][0] if len(found) == AT_ONCE else 0, timeout=None)
    return found


def _waiting_after_key(after: int) -> QuerySet[Any, Any]:
    rows = Delivery.objects.filter(state=DeliveryState.WAITING, pk__gt=after).order_by("pk")
    return rows.values_list("pk", "grant_id", "grant__model_id", "grant__closed_at")[:AT_ONCE]


def _published_of(models: list[int]) -> QuerySet[Any, Any]:
    rows = Ref.objects.filter(AnyOf(F("model"), models), name=MAIN, revision__has_weights=True)
    return rows.order_by().values_list("model_id")


def _in_need_of(models: list[int]) -> QuerySet[Any, Any]:
    unwanted = Q(recovery__state=RecoveryState.PLANNED, recovery__wanted_at=None)
    ended = Q(recovery__state__in=(RecoveryState.FAILED, RecoveryState.REFUSED))
    rows = ModelWeights.objects.filter(unwanted | ended, AnyOf(F("model"), models), replaced_at=None)
    return rows.order_by().values_list("model_id")


_waiting_after = CompiledQuery(_waiting_after_key, after=SAMPLE_NUMBER)
_published, _in_need = (CompiledQuery(build, models=SAMPLE_NUMBERS) for build in (_published_of, _in_need_of))
