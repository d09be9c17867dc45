"""What a token allows over HTTP: its kind, networks and expiry, and licence texts added since its issue."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError

from access_requests.enums import TokenKind
from access_requests.services import tokens
from access_requests.services.grants import grant_access
from portal.embedded.programs import web_command
from tests.model_ops.hub.conftest import CHECKOUT, MODEL, Portal

FILE = f"/{MODEL}/resolve/main/config.json"
LOG_IN = (
    f"Access to model {MODEL} is restricted. You must have access to it and be authenticated to access it. "
    "Please log in. "
)


@pytest.fixture(scope="session")
def holder(portal: Portal) -> str:
    """A person with a live grant, for whom these tests issue tokens."""
    portal.order("person", name="holder", repo_id=MODEL, state="granted")
    return "holder"


def refused(answer: Any, status: int, said: str) -> None:
    assert (answer.status, answer.headers["x-error-code"]) == (status, "GatedRepo")
    message = answer.headers["x-error-message"]
    assert said in message
    assert message.isascii()
    assert answer.headers["x-hf-warning"] == f"access; {message}"


def test_person_token_reads_every_model_of_its_person(portal: Portal, holder: str) -> None:
    token = portal.order("token", name=holder)["token"]
    assert portal.ask("GET", FILE, token=token).status == 307
    portal.order("model", repo_id="maker/second")
    portal.order("commit", repo_id="maker/second", add={"config.json": "e30="})
    second = "/maker/second/resolve/main/config.json"
    refused(portal.ask("GET", second, token=token), 403, "Ask for access at")
    portal.order("person", name=holder, repo_id="maker/second", state="granted")
    assert portal.ask("GET", second, token=token).status == 307


def test_ended_token_says_when_and_where_to_make_another(portal: Portal, holder: str) -> None:
    token = portal.order("token", name=holder, ended=True, called="ended")["token"]
    answer = portal.ask("HEAD", FILE, token=token)
    refused(answer, 401, LOG_IN + "This token ended on ")
    assert f"{portal.url}/me/tokens" in answer.headers["x-error-message"]


def test_token_works_from_its_networks_alone(portal: Portal, holder: str, tmp_path: Any) -> None:
    """This machine is the proxy here: the last address in its header counts."""
    order = {"name": holder, "repo_id": MODEL, "networks": ["192.0.2.0/24", "2001:db8::/32"]}
    token = portal.order("token", called="bound", **order)["token"]
    for inside in ("192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "198.51.100.1, 192.0.2.9"):
        assert portal.ask("GET", FILE, token=token, x_forwarded_for=inside).status == 307
    for outside in ("198.51.100.1", "192.0.2.7, 198.51.100.1", "2001:db9::1", "garbage", ""):
        answer = portal.ask("GET", FILE, token=token, x_forwarded_for=outside)
        refused(answer, 401, LOG_IN + "This token does not work from ")
        assert f"{portal.url}/{MODEL}/access" in answer.headers["x-error-message"]
    with pytest.raises(GatedRepoError, match=r"does not work from 127\.0\.0\.1"):
        hf_hub_download(MODEL, "config.json", endpoint=portal.url, token=token, cache_dir=tmp_path)


def test_use_is_written_by_the_server_meanwhile(portal: Portal, holder: str) -> None:
    made = portal.order("token", name=holder, called="used")
    portal.ask("GET", FILE, token=made["token"], user_agent="hf_hub/2.4", x_forwarded_for="192.0.2.7")
    deadline = time.monotonic() + 60
    while not (use := portal.order("last_use", pk=made["pk"]))["address"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert use == {"address": "192.0.2.7", "client": "hf_hub/2.4"}


def test_use_is_written_when_the_server_ends(portal: Portal, holder: str, tmp_path: Path) -> None:
    """The server ends right after the use, before the writing thread wakes up."""
    made = portal.order("token", name=holder, called="last moment")
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "web.log").open("w") as log:
        web = subprocess.Popen(
            [*web_command(listening.fileno(), scratch=tmp_path), "--graceful-timeout", "60"],
            cwd=CHECKOUT, env=portal.environment, stdout=log, stderr=log, pass_fds=[listening.fileno()],
        )  # fmt: skip
        try:
            other = replace(portal, url=f"http://127.0.0.1:{listening.getsockname()[1]}")
            other.ask("GET", FILE, token=made["token"], user_agent="curl/8", x_forwarded_for="192.0.2.8")
        finally:
            web.terminate()
            web.wait(90)
    assert portal.order("last_use", pk=made["pk"]) == {"address": "192.0.2.8", "client": "curl/8"}


def test_demanded_licence_refuses_holders_until_they_accept(portal: Portal, tmp_path: Any) -> None:
    repo_id = "maker/demanding"
    portal.order("model", repo_id=repo_id)
    portal.order("commit", repo_id=repo_id, add={"config.json": "e30="})
    secrets = {
        who: portal.order("person", name=f"d-{who}", repo_id=repo_id, state=who)["token"]
        for who in ("granted", "reviewer")
    }
    file, check = f"/{repo_id}/resolve/main/config.json", f"/api/models/{repo_id}/auth-check"
    assert portal.ask("GET", file, token=secrets["granted"]).status == 307
    asked = portal.order("demand", repo_id=repo_id, text="Be kinder.\n")
    assert asked["asked"] == 1
    assert f"Agree to the new licence of {repo_id}" in portal.order(
        "mails_to", address="d-granted@example.org"
    )
    said = (
        f"Access to model {repo_id} is restricted. The licence of {repo_id} changed: "
        f"read it and agree at {portal.url}/{repo_id}/access"
    )
    for method, path in (("GET", file), ("HEAD", file), ("GET", check)):
        refused(portal.ask(method, path, token=secrets["granted"]), 403, said)
        assert portal.ask(method, path, token=secrets["reviewer"]).status in {200, 307}
    assert portal.ask("GET", check, token=secrets["granted"]).json["error"] == said
    with pytest.raises(GatedRepoError, match="read it and agree"):
        hf_hub_download(
            repo_id, "config.json", endpoint=portal.url, token=secrets["granted"], cache_dir=tmp_path
        )
    portal.order("accept", name="d-granted", repo_id=repo_id, licence=asked["licence"])
    assert portal.ask("GET", file, token=secrets["granted"]).status == 307


def test_unknown_names_are_refused_with_a_page(portal: Portal) -> None:
    for path, code, page in (
        (f"/{MODEL}/resolve/nowhere/config.json", "RevisionNotFound", f"{portal.url}/{MODEL}"),
        (f"/{MODEL}/resolve/main/absent", "EntryNotFound", f"{portal.url}/{MODEL}"),
        ("/maker/absent/resolve/main/config.json", "RepoNotFound", f"{portal.url}/"),
    ):
        answer = portal.get(path, "granted")
        assert (answer.status, answer.headers["x-error-code"]) == (404, code)
        assert answer.headers["x-error-message"].endswith(page)
        # Clients look for files that may be absent: a warning for each would add noise to every download.
        assert ("x-hf-warning" in answer.headers) == (code != "EntryNotFound")


def test_no_secret_is_in_the_servers_logs(portal: Portal) -> None:
    portal.get(FILE, "granted")
    portal.get(FILE, "ended_token")
    logs = "".join(log.read_text() for log in portal.log.parent.glob("*.log"))
    assert [who for who, secret in portal.tokens.items() if secret and secret in logs] == []


@pytest.mark.django_db
def test_networks_are_not_bypassed_by_a_header_of_a_stranger(
    settings: Any, make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    """If no proxy is configured, the peer's own address counts, whatever the header contains."""
    settings.GATEHOUSE_PROXIES = ()
    ada, model = make_person("ada"), make_model()
    grant_access(model=model, email=ada.email, days=1)
    secret = tokens.issue_person_token(
        user=ada, kind=TokenKind.USER, name="bound", networks=["192.0.2.0/24"]
    ).secret
    headers = {"authorization": f"Bearer {secret}"}
    address = "/api/models/ai/tulu/auth-check"
    assert Client(REMOTE_ADDR="192.0.2.7").get(address, headers=headers).status_code == 200
    for name in ("x_forwarded_for", "x_real_ip", "forwarded", "client_ip", "x_client_address"):
        answer = Client(REMOTE_ADDR="203.0.113.9").get(address, headers=headers | {name: "192.0.2.7"})
        assert answer.status_code == 401
        assert "does not work from 203.0.113.9" in answer["X-Error-Message"]
