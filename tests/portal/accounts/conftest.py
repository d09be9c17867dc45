from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from tests import emails


@pytest.fixture(autouse=True)
def no_limits_from_other_tests(db: None) -> None:
    cache.clear()


@pytest.fixture
def newest_code() -> Callable[[], str]:
    return emails.newest_code


@pytest.fixture
def newest_link() -> Callable[[], str]:
    return emails.newest_link


@pytest.fixture
def signed_in(make_person: Callable[..., Any]) -> Callable[..., Client]:
    def make(name: str, **fields: Any) -> Client:
        client = Client()
        client.force_login(make_person(name, **fields), backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def add_factor() -> Callable[[Any], None]:
    """Return a call that gives a person an authenticator app."""
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    def add(person: Any) -> None:
        TOTP.activate(person, generate_totp_secret())

    return add
