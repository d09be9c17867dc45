"""Hand out work again whose message was lost or whose worker died; beat runs this."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db.models import QuerySet
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from access_requests.services.queue import enqueue_on_commit
from model_ops.models import Recovery, RecoveryShard, SmokeRun
from model_ops.services.recoveries.deliver import resume_deliveries
from model_ops.services.recoveries.leases import due, due_shards, due_to_finish
from model_ops.services.recoveries.shards import FINISH_RECOVERY, RUN_SHARD
from model_ops.services.recoveries.test_prompt import SMOKE_RECOVERY, waiting
from model_ops.services.recoveries.waiting import MOST, go_on
from model_ops.services.recoveries.weights import RUN_RECOVERY

log = logging.getLogger(__name__)

RECOVERY_QUEUE = "recovery"


def resume_work() -> None:
    """Resume what has waited long enough, then due ends, shards and recoveries, then test prompts, then deliveries.

    It can run at any rate: each step is an indexed read of at most `MOST` rows. Deliveries come last, since each takes
    locks and wakes a worker for its own recovery.
    """
    go_on()
    wanted = Recovery.objects.filter(wanted_at__isnull=False).order_by("wanted_at", "pk")
    shards = RecoveryShard.objects.order_by("pk")
    lost = [
        *_task_for_each(FINISH_RECOVERY, wanted.filter(due_to_finish())),
        *_task_for_each(RUN_SHARD, shards.filter(due_shards())),
        *_task_for_each(RUN_RECOVERY, wanted.filter(due())),
        *_task_for_each(SMOKE_RECOVERY, SmokeRun.objects.filter(waiting()).order_by("wanted_at"), "recovery"),
    ]
    if lost and _is_queue_empty():
        for task, pk in lost:
            enqueue_on_commit(task, pk)
    resume_deliveries()


def _task_for_each(task: str, rows: QuerySet[Any], key: str = "pk") -> list[tuple[str, int]]:
    return [(task, pk) for pk in rows.values_list(key, flat=True)[:MOST]]


def _is_queue_empty() -> bool:
    """Return whether the queue is empty: while messages wait, more would only pile up behind a long run."""
    try:
        with current_app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            return not channel.queue_declare(RECOVERY_QUEUE, passive=True).message_count
    except ChannelError:  # no one has used the queue yet
        return True
    except (OperationalError, RedisError, OSError) as error:
        log.warning("Broker not reached, recoveries wait: %s", error)
        return False
