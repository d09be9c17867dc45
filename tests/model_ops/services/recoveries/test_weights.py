"""Recoveries are cancelled, and planned again when the same inputs are given again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from access_requests.errors import Conflict
from access_requests.models import OutgoingMail
from model_ops.enums import DeliveryState, RecoveryState
from model_ops.models import Delivery, Recovery
from model_ops.queries import current_recovery, weights_state
from model_ops.services.catalogue.add_model import update_model
from model_ops.services.recoveries.deliver import deliver_grant
from model_ops.services.recoveries.resume import resume_work
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import cancel_recovery, prepare_weights, want_recovery


def test_a_cancelled_recovery_lets_grants_wait_and_tells_nobody(
    add_files_model: Callable[..., Any], grant: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    model = add_files_model(owner=make_person("owner"))
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    cancel_recovery(recovery=recovery)
    given = grant(model, "ada")

    resume_work()
    deliver_grant(grant_id=given.pk)
    run_recovery(recovery_id=recovery.pk)

    assert Recovery.objects.get().attempts == 0
    assert Delivery.objects.get().state == DeliveryState.WAITING
    assert OutgoingMail.objects.filter(key__contains="failed").count() == 0
    assert weights_state(model).sentence == (
        "The recovery of the weights of ai/plain was cancelled: its owner can try again, "
        f"and you get an email when they are ready; see {model.address()}/access"
    )


@pytest.mark.parametrize("state", sorted(set(RecoveryState) - {RecoveryState.RUNNING}))
def test_cancelling_what_neither_waits_nor_runs_is_refused(
    add_files_model: Callable[..., Any], state: RecoveryState
) -> None:
    recovery = current_recovery(add_files_model())
    assert recovery is not None
    Recovery.objects.update(state=state)

    with pytest.raises(Conflict) as refused:
        cancel_recovery(recovery=recovery)

    assert refused.value.sentence == (
        f"Recovery {recovery.pk} neither waits nor runs: there is nothing to cancel."
    )
    assert Recovery.objects.get().state == state


@pytest.mark.parametrize("state", [RecoveryState.REFUSED, RecoveryState.FAILED, RecoveryState.CANCELLED])
def test_the_same_inputs_again_are_planned_anew(
    add_files_model: Callable[..., Any], grant: Callable[..., Any], state: RecoveryState
) -> None:
    """Another model is added with the inputs of a failed run: old and new grants wait and are served."""
    model = add_files_model("ai/one")
    early = grant(model, "ada")
    Recovery.objects.update(state=state, error="The disk is full.", attempts=1, wanted_at=timezone.now())
    deliver_grant(grant_id=early.pk)

    late = grant(add_files_model("ai/two"), "grace")
    recovery = Recovery.objects.get()
    waiting = Delivery.objects.filter(state=DeliveryState.WAITING).count()
    resume_work()

    assert (recovery.state, recovery.error, recovery.wanted_at) == (RecoveryState.PLANNED, "", None)
    assert waiting == 2
    assert OutgoingMail.objects.filter(key__startswith=f"weights-failed:{late.pk}:").count() == 0
    run_recovery(recovery_id=recovery.pk)
    assert Delivery.objects.filter(state=DeliveryState.READY).count() == 2


def test_updating_with_the_same_inputs_after_a_failure_starts_again(
    add_files_model: Callable[..., Any], files_folder: Path, grant: Callable[..., Any]
) -> None:
    model = add_files_model()
    given = grant(model, "ada")
    Recovery.objects.update(state=RecoveryState.FAILED, error="The disk is full.", attempts=1)
    deliver_grant(grant_id=given.pk)

    update_model(model=model, prepared=prepare_weights(files=str(files_folder)))
    run_recovery(recovery_id=Recovery.objects.get().pk)

    assert (Recovery.objects.get().state, Recovery.objects.get().attempts) == (RecoveryState.READY, 2)
    assert Delivery.objects.get().state == DeliveryState.READY
