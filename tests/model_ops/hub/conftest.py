"""A live portal for the hub's tests: gunicorn started as in production, with its own database."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from portal.embedded.programs import web_command

CHECKOUT = Path(__file__).resolve().parents[3]
MODEL = "maker/tiny"
LARGE = 40_000_000  # bytes: more than the socket buffers on both sides hold
SEEDER = "import django; django.setup(); from tests.model_ops.hub import seeder; seeder.main()"
STATES = ["stranger", "draft", "pending", "changes_requested", "rejected", "reset", "withdrawn", "expired", "revoked", "granted", "ends_soon", "reviewer", "decider", "owner", "ended_token", "disabled", "out_of_scope"]  # fmt: skip


@dataclass
class Answer:
    """One HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Portal:
    """A live portal and the means to change its content."""

    url: str
    environment: dict[str, str] = field(repr=False)
    seeder: subprocess.Popen[str]
    log: Path
    tokens: dict[str, str | None] = field(default_factory=lambda: {"anonymous": None})
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    commit: str = ""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print only the address: Hypothesis would otherwise print every file."""
        printer.text(f"Portal({self.url!r})")

    def ask(
        self, method: str, path: str, *, token: str | None = None, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send one request with the path unchanged; `user_agent="x"` sends the header User-Agent."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, who: str = "anonymous", **headers: str) -> Answer:
        return self.ask("GET", path, token=self.tokens[who], **headers)

    def head(self, path: str, who: str = "anonymous", **headers: str) -> Answer:
        return self.ask("HEAD", path, token=self.tokens[who], **headers)

    def order(self, op: str, **arguments: Any) -> Any:
        """Send an order (`seeder.ORDERS`) to the seeder and return its answer."""
        assert self.seeder.stdin
        assert self.seeder.stdout
        self.seeder.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self.seeder.stdin.flush()
        line = self.seeder.stdout.readline()
        assert line, self.log.with_name("seeder.log").read_text()[-3000:]
        return json.loads(line)

    def finished_downloads(self, repo_id: str, at_least: int) -> list[dict[str, Any]]:
        """Return the model's log rows of finished bodies, waiting until there are enough of them."""
        deadline = time.monotonic() + 120
        while True:
            rows = [row for row in self.order("downloads", repo_id=repo_id) if row["state"] != "waiting"]
            if len(rows) >= at_least or time.monotonic() > deadline:
                return rows
            time.sleep(0.05)


@pytest.fixture(scope="session")
def hub_environment(
    tmp_path_factory: pytest.TempPathFactory, owner_of: Callable[..., Any]
) -> Generator[dict[str, str]]:
    """A portal's environment with an empty database, a state folder and its own broker database."""
    name = f"hub_{secrets.token_hex(4)}"
    url = os.environ["DATABASE_URL"]
    folder, _, _ = url.rpartition("/")
    state = tmp_path_factory.mktemp("hub-state")
    (state / "logs").mkdir()

    def on_server(statement: str) -> None:
        """Run the statement on a new connection, because a test may have restarted the server."""
        with owner_of() as server:
            server.execute(statement)

    on_server(f"CREATE DATABASE {name}")
    yield os.environ | {
        "DATABASE_URL": f"{folder}/{name}",
        "REDIS_URL": f"{os.environ['REDIS_URL']}?db=7",
        "GATEHOUSE_STATE": str(state),
        "GATEHOUSE_NGINX_LOG": str(state / "logs" / "nginx-downloads.log"),
        "GATEHOUSE_UPLOAD_PART": "1000000",
        "GATEHOUSE_LARGEST_UPLOAD": "30000000000",
        "GATEHOUSE_ADDRESS_RATE": "100000",  # all tests use the same address
        "GATEHOUSE_WEB_PROCESSES": "1",  # quicker to start; tests/portal/embedded has several
        "PYTHONWARNINGS": "default",
    }
    on_server(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def bare_portal(hub_environment: dict[str, str], owner_url: Callable[[str], str]) -> Generator[Portal]:
    """gunicorn as the supervisor starts it, with an empty catalogue."""
    state = Path(hub_environment["GATEHOUSE_STATE"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        environment = hub_environment | {"GATEHOUSE_URL": address}
        migrate_hub(environment, owner_url)
        yield from served(listening, address, environment, state)


def migrate_hub(environment: dict[str, str], owner_url: Callable[[str], str]) -> None:
    """Create the tables as the database's owner; the portal later runs as its own role."""
    owner = {"GATEHOUSE_OWNER_DATABASE_URL": owner_url(environment["DATABASE_URL"].rpartition("/")[2])}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0"], cwd=CHECKOUT, env=environment | owner, check=True
    )


def served(
    listening: socket.socket,
    address: str,
    environment: dict[str, str],
    state: Path,
    *,
    seeder_code: str = SEEDER,
) -> Generator[Portal]:
    """Run the web process and a seeder until the generator ends."""
    log = state / "logs" / "web.log"
    with log.open("w") as web_log, (state / "logs" / "seeder.log").open("w") as seeder_log:
        web = subprocess.Popen(
            web_command(listening.fileno(), scratch=state),
            cwd=CHECKOUT, env=environment, stdout=web_log, stderr=web_log, pass_fds=[listening.fileno()],
        )  # fmt: skip
        seeder = subprocess.Popen(
            [sys.executable, "-c", seeder_code],
            cwd=CHECKOUT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=seeder_log, text=True,
        )  # fmt: skip
        try:
            yield Portal(address, environment, seeder, log)
        finally:
            for process in (seeder, web):
                process.terminate()
            for process in (seeder, web):
                process.wait(60)
            assert seeder.stdin
            assert seeder.stdout
            seeder.stdin.close()
            seeder.stdout.close()


@pytest.fixture(scope="session")
def portal(bare_portal: Portal, tiny_repository: Path) -> Portal:
    """A gated model with weights, and a person with a token in every state towards the model."""
    bare_portal.order("model", repo_id=MODEL)
    bare_portal.commit = bare_portal.order("folder", repo_id=MODEL, path=str(tiny_repository))["commit"]
    for state in STATES:
        name = state.replace("_", "-")
        bare_portal.tokens[state] = bare_portal.order("person", name=name, repo_id=MODEL, state=state)[
            "token"
        ]
    bare_portal.tokens["unknown"] = "gth_" + "0" * 38
    bare_portal.files = {
        str(file.relative_to(tiny_repository)): file.read_bytes()
        for file in tiny_repository.rglob("*")
        if file.is_file()
    }
    return bare_portal


@dataclass
class Behind:
    """The portal through nginx and directly; each person may download `each` large bodies at once."""

    portal: Portal
    straight: Portal
    each: int


@pytest.fixture(scope="session")
def behind(portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Behind]:
    """A second web process that lets nginx send the bytes, and nginx configured as in docker/nginx."""
    from tests.model_ops.hub.ways import behind_nginx
    from tests.nginx import require_nginx

    require_nginx()
    with behind_nginx(portal, tmp_path_factory.mktemp("nginx"), each=3) as (through, straight):
        yield Behind(through, straight, 3)


@pytest.fixture(scope="session")
def large(bare_portal: Portal) -> tuple[str, bytes]:
    """The path and content of a file of `maker/large` that is too large to be sent to a client that does not read."""
    content = os.urandom(1_000_000) * (LARGE // 1_000_000)
    bare_portal.order("model", repo_id="maker/large")
    add = {"large.bin": base64.b64encode(content).decode(), "small.json": "e30="}
    commit = bare_portal.order("commit", repo_id="maker/large", add=add)["commit"]
    return f"/maker/large/resolve/{commit}/large.bin", content


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaMA, with a sub-folder, an empty file and an awkward name.

    Without torch, files of the same names.
    """
    path = tmp_path_factory.mktemp("tiny") / "repository"
    try:
        import torch  # noqa: F401
    except ImportError:
        path.mkdir()
        (path / "config.json").write_text('{"model_type": "llama"}\n')
        (path / "model.safetensors").write_bytes(os.urandom(3_000_000))
    else:
        from tests.tiny_models import make_tiny_base

        make_tiny_base(path)
    (path / "extra" / "deep").mkdir(parents=True)
    (path / "extra" / "deep" / "head.bin").write_bytes(b"seven b")
    (path / "extra" / "notes.txt").write_text("A note.\n")
    (path / "extra" / "empty.txt").write_bytes(b"")
    (path / "what? 100%: a,b é.json").write_text("{}\n")
    return path


@pytest.fixture(scope="session", autouse=True)
def no_call_home() -> None:
    """Stop the client from asking its default endpoint for a list of coding tools, once per process."""
    from huggingface_hub.utils import _detect_agent

    _detect_agent._registry = _detect_agent._EMPTY_REGISTRY
