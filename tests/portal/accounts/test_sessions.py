"""Sessions are read in one query, and an unknown cookie signs no one in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from portal.accounts.sessions import SessionStore

pytestmark = pytest.mark.django_db


def test_session_is_read_in_one_query(django_assert_num_queries: Any) -> None:
    kept = SessionStore()
    kept["word"] = "value"
    kept.save()
    with django_assert_num_queries(1):
        assert SessionStore(kept.session_key)["word"] == "value"
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert SessionStore(kept.session_key).get("word") is None


@pytest.mark.parametrize(
    "key", ["a" * 32, "a" * 5_000, "with%20a%00sign", "\0" * 32, "%s" * 16, "' OR 1=1 --", "\xc3(" * 8]
)
def test_strange_cookie_signs_nobody_in(make_person: Callable[..., Any], key: str) -> None:
    client = Client()
    client.force_login(make_person("ada"))
    assert client.get("/me/").status_code == 200
    client.cookies[settings.SESSION_COOKIE_NAME] = key
    assert client.get("/me/").status_code == 302
    assert client.get("/").status_code == 200
