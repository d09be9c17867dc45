"""Wake a worker after a commit. Rows own the work: if a message is lost, beat sends another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import current_app, group
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


def enqueue_on_commit(task_name: str, *args: int, **options: Any) -> None:
    """Send the task by name after the commit; if the broker is missing, log it, since nothing is lost."""
    transaction.on_commit(lambda: _send_task(task_name, args, options), robust=True)


def enqueue_each_on_commit(task_name: str, ids: Sequence[int], **options: Any) -> None:
    """Send one message for each id, all at once, like `enqueue_on_commit`."""
    transaction.on_commit(lambda: _send_tasks(task_name, ids, options), robust=True)


def _send_tasks(task_name: str, ids: Sequence[int], options: dict[str, Any]) -> None:
    try:
        group(current_app.signature(task_name, args=(pk,)) for pk in ids).apply_async(retry=False, **options)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("Broker not reached, %s%s wait for beat: %s", task_name, tuple(ids), error)


def _send_task(task_name: str, args: tuple[int, ...], options: dict[str, Any]) -> None:
    try:
        current_app.send_task(task_name, args=args, retry=False, **options)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("Broker not reached, %s%s waits for beat: %s", task_name, args, error)
