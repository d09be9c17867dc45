"""Run nginx in front of a portal, with the configuration in docker/nginx."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

RENDER = Path(__file__).resolve().parent.parent / "docker" / "nginx" / "render.sh"
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"  # where Debian installs nginx, often not on a user's PATH


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    url: str
    downloads_log: Path
    conf: Path
    pid: int


def search_path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


def missing() -> str:
    """Return which programs are missing here, if any."""
    return next((name for name in ("nginx", "envsubst") if not shutil.which(name, path=search_path())), "")


def require_nginx() -> None:
    """Skip the test if nginx is not installed; in continuous integration, fail."""
    if not (name := missing()):
        return
    told = f"{name} is not on PATH: install nginx-light and gettext-base"
    required = (os.environ.get("GATEHOUSE_REQUIRE_BROWSER"), os.environ.get("CI"))
    if any((value or "").lower() not in ("", "0", "false") for value in required):
        pytest.fail(f"{told}, as continuous integration needs them.")
    pytest.skip(told)


def nginx_environment(
    folder: Path,
    *,
    port: int,
    portal: str,
    store: Path,
    scheme: str = "http",
    each: int = 16,
    most: int = 1000,
    before: str = "",
) -> dict[str, str]:
    """Return the environment that the templates need, with every folder below the given one."""
    for name in ("conf", "run", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "PATH": search_path(),
        "NGINX_SCHEME": scheme,
        "NGINX_PORT": f"127.0.0.1:{port}",
        "NGINX_PROTO": "$scheme",
        "NGINX_PORTAL": portal,
        "NGINX_STORE": str(store),
        "NGINX_CONF": str(folder / "conf"),
        "NGINX_RUN": str(folder / "run"),
        "NGINX_CERTIFICATES": str(folder / "certificates"),
        "GATEHOUSE_NGINX_LOG": str(folder / "log" / "downloads.log"),
        "NGINX_BEFORE": before,
        "GATEHOUSE_MOST_BODIES": str(most),
        "GATEHOUSE_MOST_BODIES_EACH": str(each),
    }


def main_options(more: str = "") -> str:
    """Return the value of `-g`. Started as root, nginx must stay root to read a folder that only root can."""
    return "daemon off;" + (" user root;" if os.geteuid() == 0 else "") + more


@contextmanager
def running_nginx(
    environment: Mapping[str, str], *, more: str = "", listening: socket.socket | None = None
) -> Generator[Nginx]:
    """Run nginx on loopback until the block ends; an open socket can be passed in to reserve its port."""
    folder = Path(environment["NGINX_RUN"])
    port = int(environment["NGINX_PORT"].rpartition(":")[2])
    kept = [listening.fileno()] if listening else []
    inherited = {"NGINX": "".join(f"{number};" for number in kept)} if kept else {}
    if listening:
        # nginx leaves an inherited socket as it is. On a blocking one, a worker that loses the race for
        # a client would sleep in accept() until the next one comes, and keep its other clients waiting.
        listening.setblocking(False)
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [RENDER, "-g", main_options(more)], env={**environment, **inherited}, stderr=stderr, pass_fds=kept
        )
    try:
        _wait_for(folder / "nginx.pid", port, process, folder / "stderr")
        yield Nginx(
            f"{environment['NGINX_SCHEME']}://127.0.0.1:{port}",
            Path(environment["GATEHOUSE_NGINX_LOG"]),
            Path(environment["NGINX_CONF"]),
            process.pid,
        )
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(written: Path, port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            written.stat()  # nginx writes it once its sockets are open
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nginx does not answer: {said.read_text()[-2000:]}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
