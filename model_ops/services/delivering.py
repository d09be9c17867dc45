"""From a grant to readable weights: whoever waits is told once, whatever is lost on the way."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from access_requests.models import Grant
from access_requests.permissions import people_to_tell
from access_requests.services.mail import queue_mail
from access_requests.services.queue import enqueue_on_commit
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery, Recovery
from model_ops.queries import MAIN, current_recovery, published
from model_ops.services.weights import ENDED_BADLY, want_recovery

DELIVER = "model_ops.tasks.deliver_grant_task"
AT_ONCE = 500  # rows that one clean-up takes


def expect_delivery(*, grant_id: int) -> None:
    """Notes that the grant waits for weights and wakes a worker; a second call for the same grant adds nothing."""
    Delivery.objects.get_or_create(grant_id=grant_id)
    enqueue_on_commit(DELIVER, grant_id)


def deliver_grant(*, grant_id: int) -> None:
    """Brings one grant further: told that its weights are ready, or that they failed, or their recovery is wanted."""
    with transaction.atomic():
        delivery = _locked(grant_id)
        if delivery is None or delivery.state == DeliveryState.READY:
            return
        recovery = current_recovery(delivery.grant.model)
        if published(delivery.grant.model):
            _tell_ready(delivery)
            return
        if recovery and recovery.state in ENDED_BADLY:
            _tell_failed(delivery, recovery)
            return
    if recovery:  # outside the lock: a recovery that ends takes its own row first, then the deliveries
        want_recovery(recovery=recovery)


def _locked(grant_id: int) -> Delivery | None:
    """The live grant's delivery, locked; made here if its message came before its row."""
    grant = Grant.objects.filter(pk=grant_id, closed_at=None).first()
    if grant is None or not grant.is_live():
        return None
    Delivery.objects.get_or_create(grant=grant)
    return (
        Delivery.objects.select_for_update(no_key=True, of=("self",))
        .select_related("grant__model", "grant__user")
        .get(grant=grant)
    )


def tell_ended(*, recovery: Recovery) -> None:
    """Tells every grant that waits for this recovery, and its owners if it failed; in the caller's transaction."""
    if recovery.state != RecoveryState.READY:
        _tell_owners(recovery)
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
    _told(delivery, DeliveryState.READY)


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
    _told(delivery, DeliveryState.FAILED)


def _tell_owners(recovery: Recovery) -> None:
    for weights in recovery.weights.filter(replaced_at=None).select_related("model"):
        for person in people_to_tell(weights.model, owners_only=True):
            queue_mail(
                key=f"recovery-failed:{recovery.pk}:{recovery.attempts}:{weights.model_id}:{person.pk}",
                to=person.email,
                template="mails/recovery_failed.txt",
                context={"model": weights.model, "recovery": recovery, "person": person},
            )


def _told(delivery: Delivery, state: DeliveryState) -> None:
    delivery.state, delivery.told_at = state, timezone.now()
    delivery.save(update_fields=["state", "told_at"])


def resume_deliveries() -> int:
    """Grants whose message was lost, and waiting ones that something can be done for; how many were brought further."""
    forgotten = Grant.objects.filter(closed_at=None, delivery=None)
    waiting = Delivery.objects.filter(state=DeliveryState.WAITING, grant__closed_at=None)
    published_main = Q(grant__model__refs__name=MAIN, grant__model__refs__revision__has_weights=True)
    current = Q(grant__model__weights__replaced_at=None)
    unwanted = Q(
        grant__model__weights__recovery__state=RecoveryState.PLANNED,
        grant__model__weights__recovery__wanted_at=None,
    )
    ended = Q(grant__model__weights__recovery__state__in=(RecoveryState.FAILED, RecoveryState.REFUSED))
    todo = {
        *forgotten.order_by("pk").values_list("pk", flat=True)[:AT_ONCE],
        *waiting.filter(published_main).order_by("pk").values_list("grant_id", flat=True)[:AT_ONCE],
        *waiting.filter(current & (unwanted | ended))
        .order_by("pk")
        .values_list("grant_id", flat=True)[:AT_ONCE],
    }
    for grant_id in sorted(todo):
        deliver_grant(grant_id=grant_id)
    return len(todo)
