"""Downloads from a bucket: every client follows the link, and none sends its token there."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import HfFileSystem, get_hf_file_metadata, hf_hub_url, snapshot_download

from tests.clients.environments import client, client_environment
from tests.model_ops.hub.conftest import CHECKOUT, MODEL, Portal
from tests.model_ops.hub.ways import beside
from tests.s3 import BUCKET, Bucket, running_bucket
from tests.waiting import wait_until

FILE = "model.safetensors"


@dataclass
class Sending:
    """A web process that redirects clients to a bucket, which contains everything published so far."""

    portal: Portal
    bucket: Bucket

    def path(self, name: str = FILE) -> str:
        return f"/{MODEL}/resolve/{self.portal.commit}/{name}"

    def gets(self) -> list[dict[str, Any]]:
        """Return the clients' requests to the bucket since the last call."""
        asked = [asked for asked in self.bucket.seen("GET") if "X-Amz-Signature" in asked["QUERY_STRING"]]
        self.bucket.asked.clear()
        return asked


@pytest.fixture(scope="module")
def sending(portal: Portal) -> Generator[Sending]:
    with running_bucket() as bucket:
        settings = bucket.settings(prefix="weights/of-this-portal")
        make = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1').create_bucket(Bucket=sys.argv[2])"
        environment = portal.environment | settings
        subprocess.run(
            [sys.executable, "-c", make, bucket.url, BUCKET], env=environment, check=True, timeout=60
        )
        copy = [sys.executable, "manage.py", "copy_to_bucket"]
        subprocess.run(copy, cwd=CHECKOUT, env=environment, check=True, timeout=120, capture_output=True)
        with beside(portal, **settings) as web:
            yield Sending(web, bucket)


@pytest.fixture
def token(sending: Sending) -> str:
    return str(sending.portal.tokens["granted"])


def test_head_carries_the_contract_beside_the_link(sending: Sending, token: str) -> None:
    own = sending.portal.ask("HEAD", sending.path("config.json"), token=token)
    assert (own.status, own.headers.get("location")) == (200, None)  # small files do not need a second host
    answer = sending.portal.ask("HEAD", sending.path(), token=token)
    content = sending.portal.files[FILE]
    assert answer.status == 302
    assert (answer.headers["x-repo-commit"], answer.headers["x-linked-size"]) == (
        sending.portal.commit,
        str(len(content)),
    )
    link = urlsplit(answer.headers["location"])
    asked = {name: values[0] for name, values in parse_qs(link.query).items()}
    assert link.netloc == urlsplit(sending.bucket.url).netloc
    assert asked["response-content-type"] == "application/octet-stream"
    assert asked["response-content-disposition"].startswith("inline; filename*=UTF-8''model.safetensors;")
    assert int(asked["X-Amz-Expires"]) == 3600 + len(content) // 250_000
    location = hf_hub_url(MODEL, FILE, revision=sending.portal.commit, endpoint=sending.portal.url)
    seen = get_hf_file_metadata(location, token=token)
    assert (seen.commit_hash, seen.size) == (sending.portal.commit, len(content))
    assert f'"{seen.etag}"' == answer.headers["x-linked-etag"]


def test_refusals_give_no_link(sending: Sending) -> None:
    for who in ("anonymous", "stranger", "pending", "revoked", "expired", "out_of_scope"):
        answer = sending.portal.get(sending.path(), who)
        assert answer.status in {401, 403}, who
        assert "location" not in answer.headers


def test_branch_is_pinned_before_the_link(sending: Sending, token: str) -> None:
    answer = sending.portal.ask("GET", f"/{MODEL}/resolve/main/{FILE}", token=token)
    assert (answer.status, answer.headers["location"]) == (307, sending.path())


def test_snapshot_comes_from_the_bucket_without_the_token(
    sending: Sending, token: str, tmp_path: Path
) -> None:
    sending.gets()
    folder = snapshot_download(MODEL, endpoint=sending.portal.url, token=token, cache_dir=tmp_path)
    found = {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }
    assert {path: found[path] for path in sending.portal.files} == sending.portal.files
    asked = sending.gets()
    assert asked
    assert [one for one in asked if "HTTP_AUTHORIZATION" in one] == []
    assert [one for one in asked if token in str(one)] == []


def test_file_system_reads_ranges_of_the_bucket(sending: Sending, token: str) -> None:
    sending.gets()
    content = sending.portal.files[FILE]
    files = HfFileSystem(endpoint=sending.portal.url, token=token)
    with files.open(f"{MODEL}/{FILE}", "rb", revision=sending.portal.commit, block_size=65_536) as stream:
        stream.seek(100_000)
        assert stream.read(50_000) == content[100_000:150_000]
    asked = sending.gets()
    assert asked
    assert {one["HTTP_RANGE"].partition("=")[0] for one in asked} == {"bytes"}
    assert [one for one in asked if "HTTP_AUTHORIZATION" in one] == []


@pytest.mark.parametrize("version", ["2.4.0", "1.33.0", "0.36.2"])
def test_client_leaves_its_token_at_home(sending: Sending, token: str, tmp_path: Path, version: str) -> None:
    sending.gets()
    script = f"from huggingface_hub import hf_hub_download; print(hf_hub_download({MODEL!r}, {FILE!r}))"
    run = subprocess.run(
        [client(version), "-c", script],
        env=client_environment(endpoint=sending.portal.url, home=tmp_path, token=token),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).read_bytes() == sending.portal.files[FILE]
    asked = sending.gets()
    assert len(asked) == 1
    assert "HTTP_AUTHORIZATION" not in asked[0]
    assert token not in str(asked[0])


def test_curl_leaves_its_token_at_home_and_continues(sending: Sending, token: str, tmp_path: Path) -> None:
    sending.gets()
    content, target = sending.portal.files[FILE], tmp_path / FILE
    target.write_bytes(content[:1000])
    command = ["curl", "-sSf", "-L", "-C", "-", "-H", f"Authorization: Bearer {token}", "-o", str(target)]
    subprocess.run([*command, sending.portal.url + sending.path()], check=True, timeout=60)
    assert target.read_bytes() == content
    (asked,) = sending.gets()
    assert (asked["HTTP_RANGE"], "HTTP_AUTHORIZATION" in asked) == ("bytes=1000-", False)


def test_log_says_that_it_was_handed_over_and_for_how_long(sending: Sending) -> None:
    token = sending.portal.order("person", name="linked", repo_id=MODEL, state="granted")["token"]
    sending.portal.ask("GET", sending.path(), token=token)
    sending.portal.ask("GET", sending.path(), token=token, range="bytes=5-9")

    def mine() -> list[dict[str, Any]]:
        return [row for row in sending.portal.order("downloads", repo_id=MODEL) if row["user"] == "linked"]

    rows = wait_until(lambda: len(found := mine()) == 2 and found)
    size = len(sending.portal.files[FILE])
    assert [
        tuple(row[name] for name in ("mode", "state", "status", "first_byte", "bytes_asked", "bytes_sent"))
        for row in rows
    ] == [("s3", "handed_over", 302, 0, size, None), ("s3", "handed_over", 302, 5, 5, None)]


def test_file_that_is_not_in_the_bucket_yet_comes_from_the_portal(sending: Sending) -> None:
    content = os.urandom(200_000)
    sending.portal.order("model", repo_id="maker/fresh")
    add = {"fresh.bin": base64.b64encode(content).decode()}
    commit = sending.portal.order("commit", repo_id="maker/fresh", add=add)["commit"]
    token = sending.portal.order("person", name="early", repo_id="maker/fresh", state="granted")["token"]
    answer = sending.portal.ask("GET", f"/maker/fresh/resolve/{commit}/fresh.bin", token=token)
    assert (answer.status, answer.body) == (200, content)


def test_portal_without_credentials_sends_by_itself(portal: Portal, sending: Sending, tmp_path: Path) -> None:
    keyless = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    settings = sending.bucket.settings("weights/of-this-portal") | keyless
    files = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    with beside(portal, **settings, **files) as web:
        answer = web.get(sending.path(), "granted")
        assert (answer.status, answer.body) == (200, portal.files[FILE])
