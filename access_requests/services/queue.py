"""Wakes a worker after commit. Rows own the work: a message that is lost is made again by beat."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


def enqueue_on_commit(task_name: str, *args: int, **options: Any) -> None:
    """Sends the task by name once the transaction is through; a missing broker is logged and nothing is lost."""
    transaction.on_commit(lambda: _send(task_name, args, options), robust=True)


def _send(task_name: str, args: tuple[int, ...], options: dict[str, Any]) -> None:
    try:
        current_app.send_task(task_name, args=args, retry=False, **options)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("Broker not reached, %s%s waits for beat: %s", task_name, args, error)
