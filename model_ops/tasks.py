"""What workers do for the weights side. Messages carry ids; the rows say what there is to do."""

from __future__ import annotations

from celery import shared_task

from model_ops.services import delivering, recoveries, resuming, smoking

DAY = 24 * 3600


@shared_task(soft_time_limit=DAY, time_limit=DAY + 600)
def run_recovery(recovery_id: int) -> None:
    """Runs one recovery; a second delivery of the message finds it claimed."""
    recoveries.run_recovery(recovery_id=recovery_id)


@shared_task(soft_time_limit=15 * 60, time_limit=16 * 60)
def smoke_recovery(recovery_id: int) -> None:
    """Asks recovered weights something; a second delivery of the message finds it asked."""
    smoking.smoke_recovery(recovery_id=recovery_id)


@shared_task(soft_time_limit=60, time_limit=90)
def deliver_grant_task(grant_id: int) -> None:
    """Brings one grant further on its way to readable weights."""
    delivering.deliver_grant(grant_id=grant_id)


@shared_task(soft_time_limit=60, time_limit=90)
def resume_work() -> None:
    """Hands out again what was lost: messages, workers, leases."""
    resuming.resume_work()
