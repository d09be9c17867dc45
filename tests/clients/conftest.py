"""A live portal, over http and over https, and each client as a process that waits for orders."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from portal.embedded.supervisor import web_command
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
    """A certificate for 127.0.0.1 that nobody knows but who is told, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portal")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(100))
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="session")
def https_portal(
    portal: Portal,  # noqa: F811
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Portal]:
    """A second web process of the same portal, with TLS of its own."""
    folder = tmp_path_factory.mktemp("https")
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "web.log").open("w") as log:
        address = f"https://127.0.0.1:{listening.getsockname()[1]}"
        command = web_command(listening.fileno(), scratch=folder)
        command += ["--certfile", str(certificate[0]), "--keyfile", str(certificate[1])]
        web = subprocess.Popen(
            command, cwd=CHECKOUT, env=portal.environment | {"GATEHOUSE_URL": address},
            stdout=log, stderr=log, pass_fds=[listening.fileno()],
        )  # fmt: skip
        try:
            yield replace(portal, url=address, log=folder / "web.log")
        finally:
            web.terminate()
            web.wait(60)


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
