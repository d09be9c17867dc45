"""What all tasks have in common, and a sign of life from the worker, read by /healthz."""

from __future__ import annotations

import logging
import time
from typing import Any

import celery
from celery import shared_task
from django.core.cache import cache
from django.db import InterfaceError, OperationalError

log = logging.getLogger(__name__)

HEARTBEAT_KEY = "worker-heartbeat"
HEARTBEAT_LIFE = 30  # seconds


class Task(celery.Task):
    """A task that meets a database that is away ends with one line: its row owns the work, and beat hands it out again."""

    throws = (OperationalError, InterfaceError)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Write the line that stands for the traceback of an expected error."""
        if isinstance(exc, self.throws):
            why = " ".join(str(exc).split())[:300]
            log.warning("%s%s was left to its next time, by the database: %s", self.name, tuple(args), why)


@shared_task(soft_time_limit=10, time_limit=20)
def heartbeat() -> None:
    """Notes in the cache that beat, broker and worker work together."""
    cache.set(HEARTBEAT_KEY, time.time(), HEARTBEAT_LIFE)
