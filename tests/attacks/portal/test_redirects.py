"""A Hub that redirects to another port of this machine, another host, a private network, or endlessly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from access_requests.errors import Invalid
from model_ops.remote_hub import fetch_repository, limits
from model_ops.services.catalogue.import_card import import_card
from model_ops.services.sources.spec import resolve_source
from tests.attacks.portal.small_hub import COMMIT, SmallHub, running_hub
from tests.model_ops.hub.conftest import CHECKOUT

SECRET = "hf_the_portals_own"
REPO = "maker/far"


@pytest.fixture
def hub(settings: Any) -> Generator[SmallHub]:
    with running_hub() as hub:
        settings.GATEHOUSE_HUB_ENDPOINT, settings.GATEHOUSE_HUB_TOKEN = hub.url, SECRET
        yield hub


@pytest.fixture
def inside() -> Generator[SmallHub]:
    """A service on this machine that no Hub should reach."""
    with running_hub() as hub:
        yield hub


def fetched(hub: SmallHub, folder: Path, redirects: str = "") -> subprocess.CompletedProcess[str]:
    """Run the child process alone, as the worker starts it."""
    environment = {
        **os.environ,
        fetch_repository.OWN: "1",
        fetch_repository.REDIRECTS: redirects,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(folder.parent / "home"),
    }
    return subprocess.run(
        [sys.executable, "-m", "model_ops.remote_hub.fetch_repository", hub.url, REPO, COMMIT, str(folder), "all"],
        cwd=CHECKOUT, env=environment, input=SECRET, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["/model.safetensors", f"/tree/{COMMIT}"])
def test_fetch_follows_no_redirect_to_another_port(
    hub: SmallHub, inside: SmallHub, tmp_path: Path, status: int, where: str
) -> None:
    hub.status = status
    hub.redirects[where] = f"{inside.url}/{REPO}/resolve/{COMMIT}/model.safetensors"
    done = fetched(hub, tmp_path / "fetched")
    assert done.returncode == 1
    assert f"it redirects to {inside.url}, another host than its own" in done.stderr
    assert inside.asked == []
    assert not (tmp_path / "fetched").exists()


def test_fetch_follows_redirects_of_the_hub_itself(hub: SmallHub, tmp_path: Path) -> None:
    hub.redirects["/main.safetensors"] = "/elsewhere"
    hub.redirects[f"{REPO}/resolve/{COMMIT}/config.json"] = f"/other/far/resolve/{COMMIT}/config.json"
    done = fetched(hub, tmp_path / "fetched")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert hub.tokens == {f"Bearer {SECRET}"}


def test_host_that_the_operator_named_gets_the_request_without_the_token(
    hub: SmallHub, inside: SmallHub, tmp_path: Path
) -> None:
    address = inside.url.removeprefix("http://")
    hub.redirects["/model.safetensors"] = f"{inside.url}/{REPO}/resolve/{COMMIT}/model.safetensors"
    inside.files = hub.files
    done = fetched(hub, tmp_path / "fetched", redirects=address)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert inside.asked
    assert inside.tokens == set()


def test_redirects_without_end_are_bounded(hub: SmallHub, tmp_path: Path) -> None:
    hub.redirects["/tree/" + COMMIT] = f"/api/models/{REPO}/tree/{COMMIT}"
    done = fetched(hub, tmp_path / "fetched")
    assert done.returncode == 1
    assert "it redirects without end" in done.stderr
    assert len(hub.asked) <= 10


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["/revision/main", "/auth-check"])
def test_question_in_the_admin_follows_none_either(
    hub: SmallHub, inside: SmallHub, where: str, client: Any
) -> None:
    hub.redirects[where] = f"{inside.url}/api/models/{REPO}"
    with pytest.raises(Invalid, match="another host than its own") as refused:
        resolve_source(text=f"hf:{REPO}@main")
    assert "GATEHOUSE_HUB_REDIRECTS" in refused.value.sentence
    assert inside.asked == []
    assert client.get("/").status_code == 200


@pytest.mark.django_db
def test_card_is_imported_from_the_hub_alone(hub: SmallHub, inside: SmallHub) -> None:
    hub.files["README.md"] = inside.files["README.md"] = b"# Card\n"
    hub.redirects["/README.md"] = f"{inside.url}/{REPO}/resolve/{COMMIT}/README.md"
    with pytest.raises(Invalid, match="another host than its own"):
        import_card(text=f"hf:{REPO}")
    assert inside.asked == []


REFUSED = [
    ("https://huggingface.co", "https://evil.example/x"),
    ("https://huggingface.co", "http://huggingface.co/x"),
    ("https://huggingface.co", "http://cdn-lfs.huggingface.co/x"),
    ("https://huggingface.co", "https://evilhuggingface.co/x"),
    ("https://huggingface.co", "https://huggingface.co.evil.example/x"),
    ("https://huggingface.co", "https://xhf.co/x"),
    ("https://huggingface.co", "https://hf.co@evil.example/x"),
    ("https://huggingface.co", "https://user:pass@cdn-lfs.hf.co/x"),
    ("https://huggingface.co", "https://cdn-lfs.hf.co:8443/x"),
    ("https://huggingface.co", "https://huggingface.co:8443/x"),
    ("https://huggingface.co", "ftp://cdn-lfs.hf.co/x"),
    ("https://huggingface.co", "https://127.0.0.1/x"),
    ("https://huggingface.co", "https://[::1]/x"),
    ("https://huggingface.co", "https://2130706433/x"),
    ("https://huggingface.co", "https://169.254.169.254/latest/meta-data"),
    ("https://hub.example.org", "https://cdn-lfs.hf.co/x"),
    ("https://hub.example.org", "https://files.hub.example.org/x"),
    ("http://127.0.0.1:8000", "http://127.0.0.1:8001/x"),
    ("http://127.0.0.1:8000", "http://localhost:8000/x"),
    ("http://127.0.0.1:8000", "https://127.0.0.1:8000/x"),
]


@pytest.mark.parametrize(("endpoint", "target"), REFUSED)
def test_address_outside_the_table_is_refused(endpoint: str, target: str) -> None:
    with pytest.raises(limits.LedElsewhere):
        limits.limits_of(endpoint).check(httpx2.URL(target))


@pytest.mark.parametrize(
    ("endpoint", "target", "named"),
    [
        ("https://huggingface.co", "https://huggingface.co/x", ""),
        ("https://huggingface.co", "https://HuggingFace.co:443/x", ""),
        ("https://huggingface.co", "https://cdn-lfs-us-1.hf.co/x?Signature=y", ""),
        ("https://huggingface.co", "https://cas-bridge.xethub.hf.co/x", ""),
        ("https://huggingface.co", "https://cdn-lfs.huggingface.co/x", ""),
        ("https://hub.example.org", "https://files.example.org/x", "files.example.org"),
        ("https://hub.example.org", "https://a.b.example.org/x", ".example.org"),
        ("https://hub.example.org", "https://files.example.org:9000/x", "files.example.org:9000"),
        ("http://10.0.0.5:8000", "http://10.0.0.6/x", "10.0.0.6"),
    ],
)
def test_address_of_the_table_is_taken(endpoint: str, target: str, named: str) -> None:
    limits.limits_of(endpoint, named.split()).check(httpx2.URL(target))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",  # noqa: S104
     "::1", "fe80::1%lo", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"],
)  # fmt: skip
def test_name_that_leads_into_a_private_network_is_not_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of the table now resolves to another address; the Hub itself has a public one."""
    found = {"cdn-lfs.hf.co": ["93.184.215.14", address], "huggingface.co": ["93.184.215.14"]}
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, **_: [(0, 0, 0, "", (one, port)) for one in found[host]],
    )
    backend = limits.PublicOnly(limits.limits_of("https://huggingface.co"))
    with pytest.raises(limits.LedElsewhere, match="a private network"):
        backend.connect_tcp("cdn-lfs.hf.co", 443, timeout=1)


def test_answer_of_the_fetch_says_nothing_of_the_token(
    hub: SmallHub, inside: SmallHub, tmp_path: Path
) -> None:
    hub.redirects["/config.json"] = inside.url
    done = fetched(hub, tmp_path / "fetched")
    assert SECRET not in done.stdout + done.stderr
    assert {type(json.loads(line)) for line in done.stdout.splitlines()} == {dict}
