"""Count attempts in the cache. While the cache is down nothing is counted, so that no one is locked out."""

from __future__ import annotations

from contextlib import suppress

from django.core.cache import cache


def count(key: str, *, seconds: int) -> int | None:
    """Count one attempt; return how many there were, with this one, in `seconds` from the first.

    Return None while the cache is down.
    """
    found: int | None = 1
    with suppress(ValueError):  # it expired just now
        try:
            found = cache.incr(key)
        except ValueError:  # the first attempt
            if not cache.add(key, 1, timeout=seconds):
                found = cache.incr(key)
    return found


def take_back(key: str) -> None:
    """Count one attempt less."""
    with suppress(ValueError):
        cache.decr(key)


def forget(key: str) -> None:
    """Start counting from zero."""
    cache.delete(key)
