"""A live portal, reached directly and through the shipped nginx."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.model_ops.hub.conftest import Portal, bare_portal, hub_environment
from tests.model_ops.hub.ways import behind_nginx
from tests.nginx import require_nginx

__all__ = ["bare_portal", "hub_environment"]


@pytest.fixture(scope="session")
def behind(bare_portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Portal, Portal]]:
    """The portal reached through nginx, and the same web process reached directly."""
    require_nginx()
    with behind_nginx(bare_portal, tmp_path_factory.mktemp("attacked")) as through_and_straight:
        yield through_and_straight


@pytest.fixture(params=["own", "nginx"])
def attacked(request: pytest.FixtureRequest) -> Portal:
    """The portal as strangers reach it: its own web server with nginx in front."""
    if request.param == "own":
        portal: Portal = request.getfixturevalue("bare_portal")
        return portal
    through: Portal = request.getfixturevalue("behind")[0]
    return through
