"""Counts of tries, in the cache: while it is away nothing is counted, so that it keeps nobody out."""

from __future__ import annotations

from contextlib import suppress

from django.core.cache import cache


def count(key: str, *, seconds: int) -> int | None:
    """Count one try and return how many there were, this one included, in the `seconds` that begin with the first.

    None while the cache is away.
    """
    found: int | None = 1
    with suppress(ValueError):  # forgotten this moment
        try:
            found = cache.incr(key)
        except ValueError:  # the first one
            if not cache.add(key, 1, timeout=seconds):
                found = cache.incr(key)
    return found


def take_back(key: str) -> None:
    """Count one try less."""
    with suppress(ValueError):
        cache.decr(key)


def forget(key: str) -> None:
    """Start counting from zero."""
    cache.delete(key)
