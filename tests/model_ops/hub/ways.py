"""Run a second web process on the test portal's database and files with other settings, and download slowly."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from portal.embedded.programs import web_command
from tests.model_ops.hub.conftest import CHECKOUT, Portal
from tests.nginx import nginx_environment, running_nginx


@contextmanager
def beside(portal: Portal, *, url: str = "", **settings: str) -> Generator[Portal]:
    """Run another gunicorn; `url` is the public address if it differs from its own."""
    state = Path(portal.environment["GATEHOUSE_STATE"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        environment = portal.environment | {"GATEHOUSE_URL": url or address} | settings
        log = state / "logs" / f"web-{port}.log"
        with log.open("w") as web_log:
            web = subprocess.Popen(
                web_command(listening.fileno(), scratch=state),
                cwd=CHECKOUT, env=environment, stdout=web_log, stderr=web_log, pass_fds=[listening.fileno()],
            )  # fmt: skip
        try:
            yield replace(portal, url=address, environment=environment, log=log)
        finally:
            web.terminate()
            web.wait(60)


@contextmanager
def behind_nginx(
    portal: Portal,
    folder: Path,
    *,
    scheme: str = "http",
    each: int = 16,
    most: int = 1000,
    before: str = "",
    **settings: str,
) -> Generator[tuple[Portal, Portal]]:
    """Run nginx and a web process behind it; yield the portal through nginx and directly."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listening.getsockname()[1]
        url = f"{scheme}://127.0.0.1:{port}"
        straight = stack.enter_context(beside(portal, url=url, GATEHOUSE_DELIVERY="nginx", **settings))
        store = Path(portal.environment["GATEHOUSE_STATE"]) / "weights"
        environment = nginx_environment(
            folder,
            port=port,
            portal=urlsplit(straight.url).netloc,
            store=store,
            scheme=scheme,
            each=each,
            most=most,
            before=before,
        )
        log = portal.environment["GATEHOUSE_NGINX_LOG"]
        stack.enter_context(running_nginx(environment | {"GATEHOUSE_NGINX_LOG": log}, listening=listening))
        yield replace(straight, url=url), straight


@contextmanager
def slow_download(portal: Portal, path: str, token: str | None) -> Generator[http.client.HTTPResponse]:
    """Start a download whose client has read the headers and does not read any further by itself."""
    parts = urlsplit(portal.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()
