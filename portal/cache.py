"""The cache, which holds rate limits: pages stand while its server is away."""

from __future__ import annotations

from typing import Any

from django_redis.cache import RedisCache


class ForgivingCache(RedisCache):  # type: ignore[misc]
    """With IGNORE_EXCEPTIONS, `add` answers None when the server is away: that counts as added.

    allauth takes a lock by `add` before it counts tries; refused, it would tell everyone who signs in
    that they tried too often.
    """

    def add(self, *args: Any, **kwargs: Any) -> bool:
        added = super().add(*args, **kwargs)
        return True if added is None else bool(added)
