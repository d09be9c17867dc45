"""A CI service that the portal trusts, and ada, who has trusted a repository there."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from django.core.cache import cache

from access_requests.models import TrustedRepository
from access_requests.services.oauth.trusted import trust_repository
from tests.access_requests.services.oauth.trading import SITE
from tests.issuer import Issuer, running_issuer


@pytest.fixture(scope="package")
def running() -> Generator[Issuer]:
    with running_issuer() as issuer:
        issuer.add_key("second")
        issuer.add_key("curve", algorithm="ES256")
        yield issuer


@pytest.fixture
def issuer(running: Issuer, settings: Any) -> Generator[Issuer]:
    """Accept the issuer as one of GitHub's kind; restore its keys and answers after the test."""
    settings.GATEHOUSE_OIDC_ISSUERS = {running.url: "github"}
    settings.GATEHOUSE_URL = SITE
    cache.clear()
    shown = list(running.keys)
    running.asked.clear()
    yield running
    running.keys[:] = shown
    running.answers.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


@pytest.fixture
def trusted(ada: Any, issuer: Issuer) -> TrustedRepository:
    return trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")


@pytest.fixture(autouse=True)
def no_counts() -> None:
    cache.clear()
