"""What workers do for the weights side. Messages carry ids; the rows say what there is to do."""

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
    """Runs one recovery; a second delivery of the message finds it claimed."""
    run.run_recovery(recovery_id=recovery_id)


@shared_task(bind=True, soft_time_limit=DAY, time_limit=DAY + 600)
def run_shard(self: Any, shard_id: int) -> None:
    """Makes one shard of a recovery that is spread over workers."""
    shards.run_shard(shard_id=shard_id, worker=self.request.hostname or "")


@shared_task(soft_time_limit=DAY, time_limit=DAY + 600)
def finish_recovery(recovery_id: int) -> None:
    """Publishes what several workers have made."""
    run.finish_recovery(recovery_id=recovery_id)


@shared_task(soft_time_limit=15 * 60, time_limit=16 * 60)
def smoke_recovery(recovery_id: int) -> None:
    """Asks recovered weights something; a second delivery of the message finds it asked."""
    test_prompt.smoke_recovery(recovery_id=recovery_id)


@shared_task(soft_time_limit=60, time_limit=90)
def deliver_grant_task(grant_id: int) -> None:
    """Brings one grant further on its way to readable weights."""
    deliver.deliver_grant(grant_id=grant_id)


@shared_task(soft_time_limit=60, time_limit=90)
def resume_work() -> None:
    """Hands out again what was lost: messages, workers, leases."""
    resume.resume_work()


@shared_task(soft_time_limit=60, time_limit=90)
def move_downloads() -> None:
    """Brings the download log up to date: journals of processes that have died, and what nginx sent."""
    journal.ingest()
    nginx_log.read_new()
    rows.close_open_rows()


@shared_task(soft_time_limit=60, time_limit=90)
def drop_old_download_days() -> None:
    """Counts downloads of the last 30 days only."""
    counts.drop_old_days()


@shared_task(soft_time_limit=DAY, time_limit=DAY + 600)
def copy_to_bucket() -> None:
    """Copies published files into the bucket; a second message beside it finds it busy."""
    bucket.copy_missing()


@shared_task(soft_time_limit=600, time_limit=700)
def clean_uploads() -> None:
    """Removes what was uploaded and not committed for a day."""
    staging.clean()
    workspace.remove_leftovers()
