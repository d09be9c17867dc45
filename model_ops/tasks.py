"""Celery tasks of the weights side. Messages only carry ids; the rows say what to do."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from django.db import DatabaseError, connection

from model_ops.services.downloads import counts, journal, nginx_log, rows
from model_ops.services.recoveries import deliver, resume, run, shards, test_prompt, waiting, workspace
from model_ops.services.recoveries.resume import RECOVERY_QUEUE
from model_ops.services.store import bucket
from model_ops.services.uploads import staging

log = logging.getLogger(__name__)

DAY = 24 * 3600


@worker_ready.connect
def on_worker_ready(sender: Any, **_: Any) -> None:
    """Retry long waits at once and remove what killed workers left; start even if the database is away."""
    if RECOVERY_QUEUE not in sender.app.amqp.queues.consume_from:
        return
    try:
        waiting.start_over()
        workspace.remove_leftovers()
    except DatabaseError:
        log.warning("Recoveries that wait keep their time, the database is away.")
    finally:
        connection.close()


@shared_task(soft_time_limit=DAY, time_limit=DAY + 600)
def run_recovery(recovery_id: int) -> None:
    """Run one recovery; a message that is delivered twice finds it claimed."""
    run.run_recovery(recovery_id=recovery_id)


@shared_task(bind=True, soft_time_limit=DAY, time_limit=DAY + 600)
def run_shard(self: Any, shard_id: int) -> None:
    """Make one shard of a recovery that is spread over workers."""
    shards.run_shard(shard_id=shard_id, worker=self.request.hostname or "")


@shared_task(soft_time_limit=DAY, time_limit=DAY + 600)
def finish_recovery(recovery_id: int) -> None:
    """Publish the weights that several workers made."""
    run.finish_recovery(recovery_id=recovery_id)


@shared_task(soft_time_limit=15 * 60, time_limit=16 * 60)
def smoke_recovery(recovery_id: int) -> None:
    """Run the test prompt on recovered weights; a message that is delivered twice finds that done."""
    test_prompt.smoke_recovery(recovery_id=recovery_id)


@shared_task(soft_time_limit=60, time_limit=90)
def deliver_grant_task(grant_id: int) -> None:
    """Move one grant forward on its way to readable weights."""
    deliver.deliver_grant(grant_id=grant_id)


@shared_task(soft_time_limit=60, time_limit=90)
def resume_work() -> None:
    """Hand out work again whose message, worker or lease was lost."""
    resume.resume_work()


@shared_task(soft_time_limit=60, time_limit=90)
def move_downloads() -> None:
    """Update the download log from the journals of dead processes and from nginx's log."""
    journal.ingest()
    nginx_log.read_new()
    rows.close_open_rows()


@shared_task(soft_time_limit=60, time_limit=90)
def drop_old_download_days() -> None:
    """Subtract downloads older than 30 days from the counts."""
    counts.drop_old_days()


@shared_task(soft_time_limit=DAY, time_limit=DAY + 600)
def copy_to_bucket() -> None:
    """Copy published files to the bucket; a second task at the same time finds it busy."""
    bucket.copy_missing()


@shared_task(soft_time_limit=600, time_limit=700)
def clean_uploads() -> None:
    """Delete uploads that were not committed within a day."""
    staging.clean()
    workspace.remove_leftovers()
