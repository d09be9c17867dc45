"""What all tasks of the workers have in common."""

from __future__ import annotations

import logging
from typing import Any

import celery
from django.db import InterfaceError, OperationalError

log = logging.getLogger(__name__)


class Task(celery.Task):  # type: ignore[type-arg]
    """A task that meets a database that is away ends with one line: its row owns the work, and beat hands it out again."""

    throws = (OperationalError, InterfaceError)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Write the line that stands for the traceback of an expected error."""
        if isinstance(exc, self.throws):
            why = " ".join(str(exc).split())[:300]
            log.warning("%s%s was left to its next time, by the database: %s", self.name, tuple(args), why)
