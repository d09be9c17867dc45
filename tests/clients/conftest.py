"""A live portal, over HTTP and HTTPS, and each client as a process that waits for orders."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates import write_certificate
from tests.clients.driving import Driver
from tests.issuer import Issuer, running_issuer
from tests.model_ops.hub.conftest import (  # noqa: F401 - fixtures
    CHECKOUT,
    Portal,
    hub_environment,
    migrate_hub,
    no_call_home,
    portal,
    served,
    tiny_repository,
)
from tests.model_ops.hub.ways import behind_nginx
from tests.nginx import require_nginx

SEEDER = "import django; django.setup(); from tests.clients import seeder; seeder.main()"
VERSIONS = ["0.36.2", "1.33.0", "2.4.0"]
NEW = ["1.33.0", "2.4.0"]  # those that support device login, OIDC and `cache verify`


@pytest.fixture(scope="session")
def ci() -> Generator[Issuer]:
    """Return a CI service whose identities the portal accepts."""
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def bare_portal(
    hub_environment: dict[str, str],  # noqa: F811
    ci: Issuer,
    owner_url: Callable[[str], str],
) -> Generator[Portal]:
    """Start the portal of the hub's tests, with that CI service accepted."""
    state = Path(hub_environment["GATEHOUSE_STATE"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        environment = hub_environment | {
            "GATEHOUSE_URL": address,
            "GATEHOUSE_OIDC_ISSUERS": f"github={ci.url}",
        }
        migrate_hub(environment, owner_url)
        yield from served(listening, address, environment, state, seeder_code=SEEDER)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate and key for 127.0.0.1 that only clients trust that are given the certificate."""
    folder = tmp_path_factory.mktemp("https") / "certificates"
    folder.mkdir()
    write_certificate(folder / "fullchain.pem", folder / "privkey.pem")
    return folder / "fullchain.pem", folder / "privkey.pem"


@pytest.fixture(scope="session")
def https_portal(
    portal: Portal,  # noqa: F811
    certificate: tuple[Path, Path],
) -> Generator[Portal]:
    """Start nginx in front of the same portal, terminating TLS."""
    require_nginx()
    with behind_nginx(portal, certificate[0].parent.parent, scheme="https") as (through, _):
        yield through


@pytest.fixture(scope="session")
def driver_of(
    tmp_path_factory: pytest.TempPathFactory,
    portal: Portal,  # noqa: F811
) -> Generator[Callable[..., Driver]]:
    """Return `driver_of("2.4.0")`, which starts that client for the portal, or returns the running one.

    With `key` the client is separate, and its process gets these environment variables.
    """
    drivers: dict[tuple[str, str], Driver] = {}
    with ExitStack() as stack:

        def start(version: str, *, key: str = "", endpoint: str = "", **environment: str) -> Driver:
            if (version, key) not in drivers:
                made = Driver(
                    version,
                    endpoint=endpoint or portal.url,
                    folder=tmp_path_factory.mktemp(f"client-{version}"),
                    **environment,
                )
                stack.callback(made.close)
                drivers[version, key] = made
            return drivers[version, key]

        yield start


@pytest.fixture(params=VERSIONS)
def driver(request: pytest.FixtureRequest, driver_of: Callable[..., Driver]) -> Driver:
    return driver_of(request.param)


@pytest.fixture(params=NEW)
def new_driver(request: pytest.FixtureRequest, driver_of: Callable[..., Driver]) -> Driver:
    return driver_of(request.param)


def content_of(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return path -> content of every file in the folder, without the client's own metadata."""
    root = Path(folder)
    files = (path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
