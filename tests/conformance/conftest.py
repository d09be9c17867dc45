"""A live portal for upstream's tests: gunicorn as users run it, without limits."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.model_ops.hub.conftest import Portal, hub_environment, migrate_hub, served

__all__ = ["hub_environment"]
SEEDING = "import django; django.setup(); from tests.conformance import seeding; seeding.main()"
NO_LIMITS = {
    "GATEHOUSE_TOKEN_RATE": "0",
    "GATEHOUSE_ADDRESS_RATE": "0",
    "GATEHOUSE_ANONYMOUS_RATE": "0",
    "GATEHOUSE_MOST_BODIES_EACH": "56",
}


@pytest.fixture(scope="session")
def seeded_portal(hub_environment: dict[str, str], owner_url: Callable[[str], str]) -> Generator[Portal]:
    """Start an empty portal and a process that creates what upstream's tests ask for.

    Both serve every version in turn.
    """
    state = Path(hub_environment["GATEHOUSE_STATE"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        environment = hub_environment | {"GATEHOUSE_URL": address} | NO_LIMITS
        migrate_hub(environment, owner_url)
        yield from served(listening, address, environment, state, seeder_code=SEEDING)
