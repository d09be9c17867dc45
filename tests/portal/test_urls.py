from __future__ import annotations

import re

from access_requests.services.catalogue.gated_models import RESERVED_NAMESPACES
from portal.urls import urlpatterns


def test_every_page_of_the_portal_has_a_reserved_namespace() -> None:
    """No model can be added under a first path segment that means something else."""
    addresses = [str(pattern.pattern) for pattern in _leaves(urlpatterns)]
    words = {re.match(r"\^?\(?\??:?([a-z0-9.|-]*)", address)[1] for address in addresses}
    first = {word for several in words for word in several.split("|") if word}
    assert {"admin", "accounts", "api", "me", "outbox", "healthz", "robots.txt", "datasets"} <= first
    assert first <= RESERVED_NAMESPACES


def _leaves(patterns: list) -> list:
    """Return the patterns at the root, including those of an include without a prefix."""
    found = []
    for pattern in patterns:
        included = getattr(pattern, "url_patterns", None)
        found += _leaves(included) if included is not None and not str(pattern.pattern) else [pattern]
    return found
