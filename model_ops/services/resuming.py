"""What beat does: work whose message was lost, or whose worker died, is handed out again."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from access_requests.services.queue import enqueue_on_commit
from model_ops.models import Recovery, SmokeRun
from model_ops.services.delivering import resume_deliveries
from model_ops.services.leases import due
from model_ops.services.smoking import SMOKE_RECOVERY, waiting
from model_ops.services.weights import RUN_RECOVERY

log = logging.getLogger(__name__)

RECOVERY_QUEUE = "recovery"


def resume_work() -> None:
    """Deliveries first, then recoveries that are due, then weights to be asked; safe to run as often as one likes."""
    resume_deliveries()
    recoveries = Recovery.objects.filter(due()).order_by("wanted_at", "pk").values_list("pk", flat=True)
    smokes = SmokeRun.objects.filter(waiting()).order_by("wanted_at").values_list("recovery", flat=True)
    work = [(RUN_RECOVERY, pk) for pk in recoveries] + [(SMOKE_RECOVERY, pk) for pk in smokes]
    if work and _queue_is_empty():
        for task, pk in work:
            enqueue_on_commit(task, pk)


def _queue_is_empty() -> bool:
    """While messages wait, more would only pile up behind a long run: who takes them finds the row or nothing."""
    try:
        with current_app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            return not channel.queue_declare(RECOVERY_QUEUE, passive=True).message_count
    except ChannelError:  # nobody has sent to it or listened on it yet
        return True
    except (OperationalError, RedisError, OSError) as error:
        log.warning("Broker not reached, recoveries wait: %s", error)
        return False
