"""A cache that tolerates an unavailable server: it contains rate limits, and pages must work without it."""

from __future__ import annotations

from typing import Any

from django_redis.cache import RedisCache


class ForgivingCache(RedisCache):  # type: ignore[misc]
    """A Redis cache whose `add` counts as successful while the server is unavailable.

    With IGNORE_EXCEPTIONS, Django's `add` returns None then. allauth takes a lock with `add` before it counts
    attempts; if that failed, everyone who signs in would read that they tried too often.
    """

    def add(self, *args: Any, **kwargs: Any) -> bool:
        added = super().add(*args, **kwargs)
        return True if added is None else bool(added)
