"""A sign of life from the worker, read by /healthz."""

from __future__ import annotations

import time

from celery import shared_task
from django.core.cache import cache

HEARTBEAT_KEY = "worker-heartbeat"
HEARTBEAT_LIFE = 30  # seconds


@shared_task(soft_time_limit=10, time_limit=20)
def heartbeat() -> None:
    """Notes in the cache that beat, broker and worker work together."""
    cache.set(HEARTBEAT_KEY, time.time(), HEARTBEAT_LIFE)
