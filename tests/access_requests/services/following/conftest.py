"""The remote: a second live Gatehouse with its own database, behind a proxy that can inject faults."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest

from access_requests.models import FollowedRepo, RemoteRequest
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.following import polling, pushing
from access_requests.services.following.managing import follow
from tests.access_requests.services.following.proxy import FaultProxy
from tests.conftest import TULU_ANSWERS, TULU_CARD
from tests.model_ops.hub.conftest import CHECKOUT, Portal, bare_portal, hub_environment

__all__ = ["bare_portal", "hub_environment"]

SEEDER = "import django; django.setup(); from tests.access_requests.services.following import far_seeder; far_seeder.main()"


@dataclass
class FarPortal:
    """The live portal, the process that acts for its people, and the proxy in front of it."""

    url: str
    proxy: FaultProxy
    seeder: subprocess.Popen[str]
    log: Any

    def order(self, op: str, **arguments: Any) -> Any:
        """Send an order (`far_seeder.ORDERS`) to the seeder and return its answer."""
        assert self.seeder.stdin
        assert self.seeder.stdout
        self.seeder.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self.seeder.stdin.flush()
        line = self.seeder.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        return json.loads(line)


@pytest.fixture(scope="session")
def far_portal(bare_portal: Portal) -> Generator[FarPortal]:
    log = bare_portal.log.with_name("far-seeder.log")
    with log.open("w") as errors:
        seeder = subprocess.Popen(
            [sys.executable, "-c", SEEDER],
            cwd=CHECKOUT, env=bare_portal.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        proxy = FaultProxy(bare_portal.url)
        try:
            yield FarPortal(bare_portal.url, proxy, seeder, log)
        finally:
            proxy.close()
            seeder.terminate()
            seeder.wait(60)
            assert seeder.stdin
            assert seeder.stdout
            seeder.stdin.close()
            seeder.stdout.close()


@dataclass
class Sides:
    """A model here that follows one on the remote, and what a test does on either side."""

    far: FarPortal
    far_id: str
    model: Any
    rita: Any
    followed: FollowedRepo
    asked: list[str] = field(default_factory=list)

    @property
    def proxy(self) -> FaultProxy:
        return self.far.proxy

    def ask(self, name: str = "", **fields: Any) -> str:
        """Send a request on the remote and return the name, which is new because tests share the portal."""
        name = name or f"clem-{secrets.token_hex(8)}"
        fields.setdefault("answers", TULU_ANSWERS)
        fields.setdefault("first_name", "Clem")
        fields.setdefault("last_name", "Delangue")
        self.far.order("ask", name=name, repo_id=self.far_id, **fields)
        return name

    def put(self, name: str, to: str, words: str = "") -> None:
        self.far.order("put", name=name, repo_id=self.far_id, to=to, by="farah", words=words)

    def place(self, name: str) -> str | None:
        return self.far.order("place", name=name, repo_id=self.far_id)["place"]

    def decisions(self, name: str) -> list[list[str]]:
        return self.far.order("decisions", name=name, repo_id=self.far_id)

    def poll(self) -> FollowedRepo:
        """Poll now, as if our own writes were long past."""
        RemoteRequest.objects.update(wrote_at=None)
        FollowedRepo.objects.filter(pk=self.followed.pk).update(next_poll_at="2020-01-01T00:00:00Z")
        polling.poll(followed_id=self.followed.pk)
        self.followed.refresh_from_db()
        return self.followed

    def tell(self) -> list[bool]:
        """Push every decision that is due now; return for each whether it was done."""
        return [pushing.push(push_id=pk) for pk in pushing.due().values_list("pk", flat=True)]

    def remote(self, name: str) -> RemoteRequest:
        rows = RemoteRequest.objects.select_related("request__applicant", "person__user", "followed__model")
        return rows.get(person__name=name, followed=self.followed)


@pytest.fixture
def sides(
    far_portal: FarPortal, make_model: Callable[..., Any], make_person: Callable[..., Any], settings: Any
) -> Generator[Sides]:
    far_id = f"lab/tulu-{secrets.token_hex(4)}"
    far_portal.proxy.clear()
    far_portal.order("model", repo_id=far_id, card=TULU_CARD)
    token = far_portal.order("reviewer", name="farah", repo_id=far_id)["token"]
    settings.GATEHOUSE_FOLLOW_TOKENS = {far_portal.proxy.url: token}
    model, rita = make_model("ai/tulu"), make_person("rita")
    assign_role(model=model, user=rita, role="owner")
    followed = follow(model=model, endpoint=far_portal.proxy.url, far_id=far_id)
    yield Sides(far_portal, far_id, model, rita, followed)
    far_portal.proxy.clear()
