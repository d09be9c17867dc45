"""A live portal, over http and over https, and each client as a process that waits for orders."""

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
NEW = ["1.33.0", "2.4.0"]  # those that know device login, OIDC and `cache verify`


@pytest.fixture(scope="session")
def ci() -> Generator[Issuer]:
    """A CI service whose identities the portal takes."""
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def bare_portal(
    hub_environment: dict[str, str],  # noqa: F811
    ci: Issuer,
    owner_url: Callable[[str], str],
) -> Generator[Portal]:
    """As the hub's tests have it, and it lets that CI service in."""
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
    """A certificate for 127.0.0.1 that only clients which are given it trust, and its key."""
    folder = tmp_path_factory.mktemp("https") / "certificates"
    folder.mkdir()
    write_certificate(folder / "fullchain.pem", folder / "privkey.pem")
    return folder / "fullchain.pem", folder / "privkey.pem"


@pytest.fixture(scope="session")
def https_portal(
    portal: Portal,  # noqa: F811
    certificate: tuple[Path, Path],
) -> Generator[Portal]:
    """The same portal behind nginx, which ends TLS."""
    require_nginx()
    with behind_nginx(portal, certificate[0].parent.parent, scheme="https") as (through, _):
        yield through


@pytest.fixture(scope="session")
def driver_of(
    tmp_path_factory: pytest.TempPathFactory,
    portal: Portal,  # noqa: F811
) -> Generator[Callable[..., Driver]]:
    """`driver_of("2.4.0")`: that client towards the portal; with a key, one of its own, started with these variables."""
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
    """Path -> content of every file of a folder, but for what the client keeps there about itself."""
    root = Path(folder)
    files = (path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
