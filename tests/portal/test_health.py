from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client

from portal.signs import CLOCK, key_of, sign

pytestmark = pytest.mark.django_db


def test_health_without_a_worker_is_503_and_no_error_in_the_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    cache.delete(key_of("default"))
    sign(CLOCK, "mail")
    cache.delete_many([key_of("remote"), key_of("recovery")])
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (
        503,
        {
            "ok": False,
            "database": True,
            "broker": True,
            "worker": False,
            "mail": True,
            "remote": False,
            "recovery": False,
            "clock": True,
        },
    )
    assert caplog.records == []


def test_health_after_a_sign_of_life_is_200(client: Client) -> None:
    sign("default", CLOCK)
    cache.delete(key_of("remote"))
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["ok"]) == (200, True)
    assert answer["Cache-Control"] == "no-store"
