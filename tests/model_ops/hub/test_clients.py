from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.model_ops.hub.conftest import MODEL, Portal


@pytest.fixture
def api(portal: Portal) -> HfApi:
    return HfApi(endpoint=portal.url, token=portal.tokens["granted"])


def hf(portal: Portal, who: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `hf` command as a researcher runs it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": portal.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "60",
        "HF_HUB_DOWNLOAD_TIMEOUT": "60",
        "NO_COLOR": "1",
    }
    if portal.tokens[who]:
        environment["HF_TOKEN"] = str(portal.tokens[who])
    command = [str(Path(sys.executable).with_name("hf")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


def content_of(folder: str | Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def test_snapshot_download_brings_every_file(portal: Portal, tmp_path: Path) -> None:
    token = portal.tokens["granted"]
    folder = snapshot_download(MODEL, endpoint=portal.url, token=token, cache_dir=tmp_path)
    found = content_of(folder)
    assert Path(folder).name == portal.commit
    assert {path: found[path] for path in portal.files} == portal.files
    assert sorted(set(found) - set(portal.files)) == [".gitattributes", "README.md", "tiny_license.txt"]


def test_hf_hub_download_of_a_branch_and_a_commit(portal: Portal, tmp_path: Path) -> None:
    for revision in ("main", portal.commit):
        path = hf_hub_download(
            MODEL,
            "extra/deep/head.bin",
            revision=revision,
            endpoint=portal.url,
            token=portal.tokens["granted"],
            cache_dir=tmp_path / revision,
        )
        assert Path(path).read_bytes() == b"seven b"


def test_hf_hub_download_of_what_is_not_there(portal: Portal, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "endpoint": portal.url,
        "token": portal.tokens["granted"],
        "cache_dir": tmp_path,
    }
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(MODEL, "absent.json", **options)
    assert [path.name for path in tmp_path.rglob("absent.json") if ".no_exist" in str(path)] == [
        "absent.json"
    ]
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(MODEL, "config.json", revision="nope", **options)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("no/such", "config.json", **options)


def test_cli_downloads_verifies_and_finds_a_flipped_byte(portal: Portal, tmp_path: Path) -> None:
    run = hf(portal, "granted", tmp_path, "download", MODEL)
    assert run.returncode == 0, run.stderr
    assert hf(portal, "granted", tmp_path, "cache", "verify", MODEL).returncode == 0
    weights = next(tmp_path.rglob("model.safetensors")).resolve()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run = hf(portal, "granted", tmp_path, "cache", "verify", MODEL)
    assert run.returncode == 1
    assert "model.safetensors" in run.stdout + run.stderr


@pytest.mark.parametrize("who", ["anonymous", "pending", "rejected", "revoked", "unknown"])
def test_cli_shows_our_sentence(portal: Portal, who: str, tmp_path: Path) -> None:
    run = hf(portal, who, tmp_path, "download", MODEL)
    assert run.returncode == 1
    assert f"{portal.url}/{MODEL}" in run.stderr
    expected = {
        "anonymous": "Sign in and ask",
        "pending": "waiting for a reviewer",
        "rejected": "was rejected",
        "revoked": "was revoked",
        "unknown": "not a Gatehouse token",
    }
    assert expected[who] in run.stderr


def test_cli_lists_and_logs_in(portal: Portal, tmp_path: Path) -> None:
    listed = hf(portal, "anonymous", tmp_path, "models", "ls", "--search", "tiny", "--format", "json")
    assert f'"{MODEL}"' in listed.stdout
    run = hf(portal, "anonymous", tmp_path, "auth", "login", "--token", str(portal.tokens["granted"]))
    assert run.returncode == 0, run.stderr
    assert "granted" in hf(portal, "anonymous", tmp_path, "auth", "whoami").stdout


def test_api_reads(portal: Portal, api: HfApi) -> None:
    info = api.model_info(MODEL, files_metadata=True)
    assert (info.sha, info.gated, info.author) == (portal.commit, "manual", "maker")
    weights = next(file for file in info.siblings or [] if file.rfilename == "model.safetensors")
    assert weights.size == len(portal.files["model.safetensors"])
    assert api.repo_info(MODEL, revision=portal.commit).sha == portal.commit
    assert set(portal.files) < set(api.list_repo_files(MODEL))
    assert [item.path for item in api.list_repo_tree(MODEL, "extra/deep", expand=True)] == [
        "extra/deep/head.bin"
    ]
    assert [
        item.path for item in api.get_paths_info(MODEL, ["extra", "config.json", "nope"], expand=True)
    ] == ["extra", "config.json"]
    assert portal.commit in {
        branch.target_commit for branch in api.list_repo_refs(MODEL, include_pull_requests=True).branches
    }
    assert api.list_repo_commits(MODEL, formatted=True)[0].commit_id == portal.commit
    assert [api.repo_exists(MODEL), api.repo_exists("no/such")] == [True, False]
    assert [api.file_exists(MODEL, "config.json"), api.file_exists(MODEL, "nope")] == [True, False]
    assert [api.revision_exists(MODEL, "main"), api.revision_exists(MODEL, "nope")] == [True, False]
    assert MODEL in {
        model.id for model in api.list_models(search="tiny", gated=True, full=True, cardData=True)
    }
    assert api.whoami()["name"] == "granted"
    api.auth_check(MODEL)
    with pytest.raises(HfHubHTTPError):
        api.whoami(token=portal.tokens["unknown"])


def test_file_system_reads_and_lists(portal: Portal) -> None:
    files = HfFileSystem(endpoint=portal.url, token=portal.tokens["granted"], skip_instance_cache=True)
    assert files.cat(f"{MODEL}/config.json") == portal.files["config.json"]
    weights = portal.files["model.safetensors"]
    with files.open(f"{MODEL}/model.safetensors", "rb") as stream:
        stream.seek(len(weights) - 10)
        assert stream.read() == weights[-10:]
        stream.seek(1000)
        assert stream.read(100) == weights[1000:1100]
    assert files.cat(f"{MODEL}/extra/empty.txt") == b""
    assert f"{MODEL}/extra/deep/head.bin" in files.find(MODEL)
    assert files.isdir(f"{MODEL}/extra")
    assert files.glob(f"{MODEL}/*.safetensors") == [f"{MODEL}/model.safetensors"]


TRANSFORMERS = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
repo = sys.argv[1]
config = AutoConfig.from_pretrained(repo)
tokenizer = AutoTokenizer.from_pretrained(repo)
model = AutoModelForCausalLM.from_pretrained(repo)
ids = tokenizer("Hello", return_tensors="pt")
print("logits", tuple(model(**ids).logits.shape), config.vocab_size)
"""


def run_transformers(portal: Portal, who: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": portal.url,
        "HF_HOME": str(home),
        "HF_TOKEN": str(portal.tokens[who] or ""),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", TRANSFORMERS, MODEL],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_transformers_loads_the_model(portal: Portal, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = run_transformers(portal, "granted", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("logits (1, 5, 32000) 32000")


def test_transformers_shows_why_it_was_refused(portal: Portal, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = run_transformers(portal, "rejected", tmp_path)
    assert run.returncode == 1
    assert f"read why, appeal or ask again at {portal.url}/{MODEL}" in run.stderr
