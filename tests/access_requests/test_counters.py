"""Attempts are counted in the cache, and a cache that is down locks no one out."""

from __future__ import annotations

import pytest
from django.core.cache import cache, caches
from django.test.utils import override_settings

from access_requests import counters

KEY = "test:counter"


@pytest.fixture(autouse=True)
def empty_count() -> None:
    cache.delete(KEY)


def test_count_begins_with_one_and_ends_by_itself() -> None:
    assert [counters.count(KEY, seconds=60) for _ in range(3)] == [1, 2, 3]
    assert 0 < cache.ttl(KEY) <= 60


def test_try_that_is_taken_back_does_not_count() -> None:
    counters.take_back(KEY)
    assert counters.count(KEY, seconds=60) == 1
    counters.take_back(KEY)
    assert counters.count(KEY, seconds=60) == 1


def test_forgotten_count_begins_again() -> None:
    counters.count(KEY, seconds=60)
    counters.forget(KEY)
    assert counters.count(KEY, seconds=60) == 1


def test_nothing_is_counted_while_the_cache_is_away() -> None:
    options = {"IGNORE_EXCEPTIONS": True, "SOCKET_CONNECT_TIMEOUT": 1}
    away = {"BACKEND": "portal.cache.ForgivingCache", "LOCATION": "redis://127.0.0.1:1/0", "OPTIONS": options}
    with override_settings(CACHES={"default": away}):
        assert caches["default"].get(KEY) is None
        assert counters.count(KEY, seconds=60) is None
        counters.take_back(KEY)
        counters.forget(KEY)
