"""What a researcher with access can do with each client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import NEW, VERSIONS, content_of
from tests.clients.driving import Driver
from tests.model_ops.hub.conftest import MODEL, Portal


def granted(portal: Portal) -> str:
    return str(portal.tokens["granted"])


def missing_from(portal: Portal, found: dict[str, bytes]) -> list[str]:
    """Return the published files that are missing or different in the folder."""
    return [path for path, content in portal.files.items() if found.get(path) != content]


def test_whole_model(driver: Driver, portal: Portal, tmp_path: Path) -> None:
    run = driver.hf("download", MODEL, "--local-dir", str(tmp_path), token=granted(portal))
    assert run.status == 0, run.stderr
    found = content_of(tmp_path)
    assert missing_from(portal, found) == []
    assert set(found) - set(portal.files) == {".gitattributes", "README.md", "tiny_license.txt"}


def test_one_file(driver: Driver, portal: Portal, tmp_path: Path) -> None:
    path = "what? 100%: a,b é.json"
    run = driver.hf("download", MODEL, path, "--local-dir", str(tmp_path), token=granted(portal))
    assert run.status == 0, run.stderr
    assert content_of(tmp_path) == {path: portal.files[path]}


def test_patterns(driver: Driver, portal: Portal, tmp_path: Path) -> None:
    options = ["--include", "*.json", "--exclude", "what*", "--local-dir", str(tmp_path)]
    run = driver.hf("download", MODEL, *options, token=granted(portal))
    assert run.status == 0, run.stderr
    wanted = {path for path in portal.files if path.endswith(".json") and not path.startswith("what")}
    assert set(content_of(tmp_path)) == wanted
    code = f"import huggingface_hub as h; print(h.snapshot_download({MODEL!r}, allow_patterns='extra/*', cache_dir={str(tmp_path / 'cache')!r}))"
    run = driver.python(code, token=granted(portal))
    folder = Path(run.stdout.strip())
    assert folder.name == portal.commit
    assert set(content_of(folder)) == {path for path in portal.files if path.startswith("extra/")}


READS = f"""
import json
from huggingface_hub import HfApi, HfFileSystem
files, api = HfFileSystem(), HfApi()
with files.open("{MODEL}/model.safetensors", "rb") as stream:
    stream.seek(1000)
    part = stream.read(64).hex()
found = {{
    "part": part,
    "config": files.cat("{MODEL}/config.json").decode(),
    "empty": files.cat("{MODEL}/extra/empty.txt").decode(),
    "found": sorted(files.find("{MODEL}/extra")),
    "isdir": files.isdir("{MODEL}/extra"),
    "models": [model.id for model in api.list_models(search="tiny", author="maker")],
    "gated": api.model_info("{MODEL}").gated,
    "files": sorted(api.list_repo_files("{MODEL}")),
    "whoami": api.whoami()["name"],
    "tree": [item.path for item in api.list_repo_tree("{MODEL}", "extra/deep")],
    "refs": [branch.target_commit for branch in api.list_repo_refs("{MODEL}").branches],
    "commit": api.list_repo_commits("{MODEL}")[0].commit_id,
    "paths": [item.path for item in api.get_paths_info("{MODEL}", ["config.json", "none"])],
    "exists": [api.file_exists("{MODEL}", "config.json"), api.file_exists("{MODEL}", "none")],
    "checked": api.auth_check("{MODEL}"),
}}
print(json.dumps(found))
"""


def test_file_system_and_lists(driver: Driver, portal: Portal) -> None:
    run = driver.python(READS, token=granted(portal))
    assert run.status == 0, run.stderr
    found = run.json
    extra = sorted(path for path in portal.files if path.startswith("extra/"))
    assert found["part"] == portal.files["model.safetensors"][1000:1064].hex()
    assert found["config"] == portal.files["config.json"].decode()
    assert found["found"] == [f"{MODEL}/{path}" for path in extra]
    assert set(portal.files) < set(found["files"])
    assert found["refs"] == [portal.commit]
    plain = {
        key: value for key, value in found.items() if key not in {"part", "config", "found", "files", "refs"}
    }
    assert plain == {
        "empty": "",
        "isdir": True,
        "models": [MODEL],
        "gated": "manual",
        "whoami": "granted",
        "tree": ["extra/deep/head.bin"],
        "commit": portal.commit,
        "paths": ["config.json"],
        "exists": [True, False],
        "checked": None,
    }


def test_cache_verify_finds_one_flipped_byte(new_driver: Driver, portal: Portal, tmp_path: Path) -> None:
    cache = ["--cache-dir", str(tmp_path)]
    assert new_driver.hf("download", MODEL, *cache, token=granted(portal)).status == 0
    run = new_driver.hf("cache", "verify", MODEL, *cache, token=granted(portal))
    assert run.status == 0, run.said
    weights = next(tmp_path.rglob("model.safetensors")).resolve()
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    run = new_driver.hf("cache", "verify", MODEL, *cache, token=granted(portal))
    assert run.status == 1
    assert "model.safetensors" in run.said


def test_hf_lists_models(new_driver: Driver) -> None:
    run = new_driver.hf("models", "ls", "--author", "maker", "--search", "tiny", "--format", "json")
    assert [model["id"] for model in json.loads(run.stdout)] == [MODEL]


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_over_https(
    version: str,
    driver_of: Callable[..., Driver],
    https_portal: Portal,
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    trust = {"SSL_CERT_FILE": str(certificate[0]), "REQUESTS_CA_BUNDLE": str(certificate[0])}
    driver = driver_of(version, key="https", endpoint=https_portal.url, **trust)
    cache = ["--cache-dir", str(tmp_path)]
    run = driver.hf("download", MODEL, *cache, token=granted(https_portal))
    assert run.status == 0, run.stderr
    assert missing_from(https_portal, content_of(next(tmp_path.glob("models--*/snapshots/*")))) == []
    if version in NEW:
        assert driver.hf("cache", "verify", MODEL, *cache, token=granted(https_portal)).status == 0
    run = driver.python(READS, token=granted(https_portal))
    assert (run.status, run.json["whoami"]) == (0, "granted"), run.stderr
    code = f"from huggingface_hub import hf_hub_download; hf_hub_download({MODEL!r}, 'config.json', cache_dir={str(tmp_path / 'no')!r})"
    refused = driver.python(code, token=str(https_portal.tokens["pending"]))
    assert refused.status == 1
    assert "GatedRepoError" in refused.stderr
    assert f"waiting for a reviewer (position 1 in the queue): {https_portal.url}/{MODEL}" in refused.said
