"""A reviewer's script and a maker's upload, with each client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import VERSIONS, content_of
from tests.clients.driving import Driver
from tests.model_ops.hub.conftest import Portal

REVIEW = """
import json, inspect
from huggingface_hub import HfApi
api, repo, found = HfApi(), "REPO", {}

def users(items):
    return sorted(item.username for item in items)

def lists():
    return [users(api.list_pending_access_requests(repo)), users(api.list_accepted_access_requests(repo)), users(api.list_rejected_access_requests(repo))]

found["before"] = lists()
item = api.list_pending_access_requests(repo)
item = next(iter(item))
found["item"] = [item.username, item.status, item.fields, item.timestamp is not None]
api.accept_access_request(repo, "first")
api.reject_access_request(repo, "second", rejection_reason="Say more of the use.")
api.grant_access(repo, "third")
found["after"] = lists()
api.cancel_access_request(repo, "first")
found["cancelled"] = lists()
found["errors"] = []
for act in (lambda: api.cancel_access_request(repo, "first"), lambda: api.accept_access_request(repo, "nobody"), lambda: api.reject_access_request(repo, "first", rejection_reason=None)):
    try:
        act()
    except Exception as error:
        found["errors"].append([type(error).__name__, error.response.status_code])
print(json.dumps(found))
"""


def test_access_requests_are_decided_by_a_script(driver: Driver, portal: Portal) -> None:
    repo = f"maker/asked-{driver.version.replace('.', '-')}"
    portal.order("model", repo_id=repo)
    prefix = f"x{driver.version.replace('.', '')}"
    names = {name: f"{prefix}-{name}" for name in ("first", "second", "third", "judge")}
    for name in ("first", "second"):
        portal.order("person", name=names[name], repo_id=repo, state="pending")
    portal.order("person", name=names["third"], repo_id=repo, state="stranger")
    token = portal.order("person", name=names["judge"], repo_id=repo, state="owner")["token"]
    code = REVIEW.replace("REPO", repo)
    for name in ("first", "second", "third"):
        code = code.replace(f'"{name}"', f'"{names[name]}"')
    run = driver.python(code, token=token)
    assert run.status == 0, run.stderr
    first, second, third = names["first"], names["second"], names["third"]
    assert run.json == {
        "before": [[first, second], [], []],
        "item": [first, "pending", {"Why": "To test."}, True],
        "after": [[], [first, third], [second]],
        "cancelled": [[first], [third], [second]],
        "errors": [["HfHubHTTPError", 404], ["HfHubHTTPError", 404], ["BadRequestError", 400]],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_is_uploaded_and_comes_back(
    version: str, driver_of: Callable[..., Driver], portal: Portal, tmp_path: Path
) -> None:
    driver = driver_of(version, key="plain uploads", HF_HUB_DISABLE_XET="1")
    name = f"maker-{driver.version.replace('.', '')}"
    repo = f"{name}/model"
    token = portal.order("empty", repo_id=repo, owner=name, at_once=True)["token"]
    files = {
        "config.json": b'{"model_type": "llama"}\n',
        "model.safetensors": bytes(range(256)) * 12_000,
        "extra/what? é.txt": "é\n".encode(),
    }
    for path, content in files.items():
        target = tmp_path / "folder" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    upload = driver.hf("upload", repo, str(tmp_path / "folder"), ".", token=token)
    assert upload.status == 0, upload.said
    one = driver.hf("upload", repo, str(tmp_path / "folder" / "config.json"), "second.json", token=token)
    assert one.status == 0, one.said
    code = f"from huggingface_hub import HfApi; print(HfApi().upload_folder(repo_id={repo!r}, folder_path={str(tmp_path / 'folder')!r}, path_in_repo='again').oid)"
    again = driver.python(code, token=token)
    assert again.status == 0, again.stderr
    back = driver.hf("download", repo, "--local-dir", str(tmp_path / "back"), token=token)
    assert back.status == 0, back.said
    expected = (
        files
        | {"second.json": files["config.json"]}
        | {f"again/{path}": content for path, content in files.items()}
    )
    found = content_of(tmp_path / "back")
    assert {path: found.get(path) for path in expected} == expected


def test_without_the_variable_an_upload_names_it(new_driver: Driver, portal: Portal, tmp_path: Path) -> None:
    name = f"xet-{new_driver.version.replace('.', '')}"
    token = portal.order("empty", repo_id=f"{name}/model", owner=name)["token"]
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(3_000_000))
    run = new_driver.hf("upload", f"{name}/model", str(weights), token=token)
    assert run.status == 1
    assert "HF_HUB_DISABLE_XET=1" in run.said


def test_a_reader_may_neither_decide_nor_upload(driver: Driver, portal: Portal, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    token = str(portal.tokens["granted"])
    upload = driver.hf("upload", "maker/tiny", str(tmp_path / "config.json"), token=token)
    assert upload.status == 1
    assert f"{portal.url}/me/tokens" in upload.said
    code = (
        "from huggingface_hub import HfApi; print(list(HfApi().list_pending_access_requests('maker/tiny')))"
    )
    listing = driver.python(code, token=token)
    assert listing.status == 1
    assert f"{portal.url}/me/tokens" in listing.said
