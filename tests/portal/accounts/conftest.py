from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client


@pytest.fixture(autouse=True)
def no_limits_from_other_tests(db: None) -> None:
    cache.clear()


@pytest.fixture
def newest_code() -> Callable[[], str]:
    def read() -> str:
        found = re.search(r"^[A-Z0-9]{4}-[A-Z0-9]{4}$", mail.outbox[-1].body, re.MULTILINE)
        assert found, mail.outbox[-1].body
        return found.group()

    return read


@pytest.fixture
def newest_link() -> Callable[[], str]:
    def read() -> str:
        found = re.search(r"http://\S+", mail.outbox[-1].body)
        assert found, mail.outbox[-1].body
        return found.group().removeprefix("http://127.0.0.1:8000")

    return read


@pytest.fixture
def signed_in(make_person: Callable[..., Any]) -> Callable[..., Client]:
    def make(name: str, **fields: Any) -> Client:
        client = Client()
        client.force_login(make_person(name, **fields), backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def add_factor() -> Callable[[Any], None]:
    """Gives a person an authenticator app."""
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    def add(person: Any) -> None:
        TOTP.activate(person, generate_totp_secret())

    return add
