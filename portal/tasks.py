"""The task that deletes expired data."""

from __future__ import annotations

from celery import shared_task

from portal import housekeeping as keeping


@shared_task(soft_time_limit=60, time_limit=90)
def housekeeping() -> None:
    """Delete expired data for a few seconds; queue another run while there is more."""
    if keeping.clear_ended():
        housekeeping.apply_async(expires=3600)
