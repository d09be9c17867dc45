"""Signs of life in the cache, read by /healthz: of each queue's worker, and of the clock (beat).

A worker signs in its main process while it listens to the broker, so no long task delays the sign.
"""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps
from django.core.cache import cache

EVERY = 5.0  # seconds
LIFE = 30  # seconds
CLOCK = "clock"
# named as in /healthz: by its queue
WORKERS = {"worker": "default", "mail": "mail", "remote": "remote", "recovery": "recovery"}


def key_of(who: str) -> str:
    """Return the cache key for the worker of a queue, or for the clock."""
    return f"sign:{who}"


def sign(*names: str) -> None:
    """Note that the workers of these queues, or the clock, are alive.

    Does nothing while the cache is down.
    """
    cache.set_many({key_of(name): time.time() for name in names}, LIFE)


def signs() -> dict[str, bool]:
    """Return who gave a sign of life recently: a worker of each queue, and the clock."""
    wanted = WORKERS | {CLOCK: CLOCK}
    found = cache.get_many([key_of(who) for who in wanted.values()]) or {}
    return {name: key_of(who) in found for name, who in wanted.items()}


class Signing(bootsteps.StartStopStep):
    """A part of a Celery worker's consumer that gives its queues' sign while the broker is connected."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None

    def start(self, consumer: Any) -> None:
        """Sign at once, then every few seconds."""
        self._sign_queues(consumer)
        self.timer = consumer.timer.call_repeatedly(EVERY, self._sign_queues, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Stop signing; called again on every lost connection."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _sign_queues(self, consumer: Any) -> None:
        sign(*(queue.name for queue in consumer.task_consumer.queues))
