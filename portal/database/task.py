"""The base class of all tasks."""

from __future__ import annotations

import logging
from typing import Any

import celery
from django.db import InterfaceError, OperationalError

log = logging.getLogger(__name__)


class Task(celery.Task):  # type: ignore[type-arg]
    """A task that logs one line if the database is down: its row owns the work, and beat queues it again."""

    throws = (OperationalError, InterfaceError)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Log one line instead of a traceback for an expected error."""
        if isinstance(exc, self.throws):
            why = " ".join(str(exc).split())[:300]
            log.warning("%s%s was left to its next time, by the database: %s", self.name, tuple(args), why)
