"""The one job that deletes what is kept for a time only."""

from __future__ import annotations

from celery import shared_task

from portal import housekeeping as keeping


@shared_task(soft_time_limit=60, time_limit=90)
def housekeeping() -> None:
    """Delete what is not to be kept any longer, for a few seconds; go on in a message of its own while there is more."""
    if keeping.clear_ended():
        housekeeping.apply_async(expires=3600)
