"""Uploads through nginx, with the configuration of docker/nginx and a client as a maker uses it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.certificates import write_certificate
from tests.clients.environments import client, client_environment
from tests.model_ops.hub.conftest import Behind, Portal
from tests.model_ops.hub.uploads.conftest import Maker
from tests.model_ops.hub.uploads.test_attacks import HEADER, refused, small
from tests.model_ops.hub.ways import behind_nginx
from tests.nginx import require_nginx

ELSEWHERE = 2**20  # bytes that nginx allows on other addresses
LARGE = 17_777_217
UPLOAD = """
import sys
from huggingface_hub import HfApi
print(HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2]).oid)
"""
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], revision=sys.argv[2], cache_dir=sys.argv[3]))
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with a small file, and one so large that nginx accepts it only on upload routes."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    (folder / "model.safetensors").write_bytes(os.urandom(1_000_000) * (LARGE // 1_000_000) + b"end")
    return folder


def run(code: str, *arguments: Any, url: str, token: str, home: Path, **more: str) -> str:
    """Run the client's program and return the last word it prints."""
    environment = client_environment(
        endpoint=url, home=home, token=token, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1", **more
    )
    command = [client("2.4.0"), "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()[-1]


def hashes(folder: Path) -> dict[str, str]:
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def question(*, size: int, transfers: list[str]) -> bytes:
    objects = [{"oid": "a" * 64, "size": size}]
    return json.dumps({"operation": "upload", "transfers": transfers, "objects": objects}).encode()


def goes_through(maker: Maker, portal: Portal, weights: Path, tmp_path: Path, **more: str) -> None:
    """Upload with one client, publish as the owner, and download with another client, all through nginx."""
    options: dict[str, Any] = {"url": portal.url, "token": maker.token, "home": tmp_path / "home", **more}
    commit = run(UPLOAD, maker.repo_id, weights, **options)
    held = maker.portal.order("facts", repo_id=maker.repo_id)["revisions"][-1]
    assert (held[0], held[2], maker.staged) == (commit, True, [])
    assert maker.portal.order("publish", commit=commit) == {"commit": commit}
    found = hashes(Path(run(DOWNLOAD, maker.repo_id, "main", tmp_path / "cache", **options)))
    assert {name: found[name] for name in hashes(weights)} == hashes(weights)
    assert commit in {path.name for path in (tmp_path / "cache").glob("*/snapshots/*")}


def test_folder_in_parts_goes_through(behind: Behind, holder: Maker, weights: Path, tmp_path: Path) -> None:
    goes_through(holder, behind.portal, weights, tmp_path)
    path, body = (
        f"/{holder.repo_id}.git/info/lfs/objects/batch",
        question(size=LARGE, transfers=["multipart"]),
    )
    found = behind.portal.ask("POST", path, token=holder.token, body=body).json
    actions = found["objects"][0]["actions"]
    parts = {name: part for name, part in actions["upload"]["header"].items() if name.isdigit()}
    assert (found["transfer"], len(parts)) == ("multipart", -(-LARGE // 1_000_000))
    named = [actions["upload"]["href"], actions["verify"]["href"], *parts.values()]
    assert [href for href in named if not href.startswith(f"{behind.portal.url}/api/uploads/")] == []


def test_folder_in_one_piece_goes_through_tls(holder: Maker, weights: Path, tmp_path: Path) -> None:
    """The addresses that the portal returns are those of nginx, with https."""
    require_nginx()
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    write_certificate(certificates / "fullchain.pem", certificates / "privkey.pem")
    trust = {"SSL_CERT_FILE": str(certificates / "fullchain.pem")}
    with behind_nginx(holder.portal, tmp_path, scheme="https", GATEHOUSE_UPLOAD_PART="100000000") as (
        through,
        _,
    ):
        goes_through(holder, through, weights, tmp_path, **trust)
        context = ssl.create_default_context(cafile=trust["SSL_CERT_FILE"])
        asked = Request(
            f"{through.url}/{holder.repo_id}.git/info/lfs/objects/batch",
            data=question(size=LARGE, transfers=["basic", "multipart"]),
            headers={"Authorization": f"Bearer {holder.token}"},
        )
        with urlopen(asked, context=context) as answer:
            found = json.load(answer)
        assert found["transfer"] == "basic"
        for action in found["objects"][0]["actions"].values():
            assert action["href"].startswith(f"{through.url}/api/uploads/")


def test_commit_that_is_too_large_is_refused_by_the_portal_itself(behind: Behind, holder: Maker) -> None:
    """The announced length or a single file is too large: a code and advice are returned."""
    path = f"/api/models/{holder.repo_id}/commit/main"
    connection = http.client.HTTPConnection(urlsplit(behind.portal.url).netloc, timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Authorization", f"Bearer {holder.token}")
    connection.putheader("Content-Length", str(2**30 + 1))
    connection.endheaders()
    connection.send(bytes(2**21))
    answer = connection.getresponse()
    assert (answer.status, answer.headers["X-Error-Code"]) == (413, "TooLarge")
    assert "commit in several steps" in (answer.headers["X-Error-Message"] or "")
    connection.close()
    lines = [
        json.dumps(HEADER),
        json.dumps(small("a.txt", "A" * 15_000_000)),
        json.dumps(small("b.txt", "A" * 4_000_000)),
    ]
    body = "\n".join(lines).encode()
    assert len(body) > 16 * ELSEWHERE
    one = behind.portal.ask("POST", path, token=holder.token, body=body)
    refused(one, 413, "send larger ones as large files")


@pytest.mark.parametrize("size", [2 * ELSEWHERE, ELSEWHERE + 1])
def test_large_question_is_refused_with_a_code(behind: Behind, holder: Maker, size: int) -> None:
    """nginx refuses it before storing any of it."""
    for path in ("/api/validate-yaml", "/api/repos/create", f"/api/models/{holder.repo_id}/paths-info/main"):
        answer = behind.portal.ask("POST", path, token=holder.token, body=b"{}".ljust(size))
        refused(answer, 413, "send less at once")
        assert answer.headers["x-error-code"] == "TooLarge"
