"""The installed client as a library; `tests/clients` covers the commands and other versions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, snapshot_download
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError

from tests.model_ops.hub.test_clients import content_of
from tests.model_ops.hub.uploads.conftest import Maker

# How the client itself uses its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def downloaded(maker: Maker, folder: Path, **options: Any) -> dict[str, bytes]:
    """Download the repository and return its files, except `.gitattributes`."""
    path = snapshot_download(
        maker.repo_id, endpoint=maker.portal.url, token=maker.token, cache_dir=folder, **options
    )
    return {name: content for name, content in content_of(path).items() if name != ".gitattributes"}


def test_uploaded_folder_comes_back_whole(maker: Maker, folder: Path, tmp_path: Path) -> None:
    """A file in parts, one in a single piece, small ones and an empty one all come back, with correct ids."""
    info = maker.api.upload_folder(repo_id=maker.repo_id, folder_path=folder)
    assert info.oid == maker.api.model_info(maker.repo_id).sha
    assert downloaded(maker, tmp_path / "cache") == content_of(folder)
    assert maker.staged == []
    checked = maker.api.verify_repo_checksums(maker.repo_id, local_dir=folder, token=maker.token)
    assert (checked.mismatches, checked.missing_paths) == ([], [".gitattributes"])


def test_second_upload_sends_and_commits_what_changed(maker: Maker, folder: Path) -> None:
    first = maker.api.upload_folder(repo_id=maker.repo_id, folder_path=folder)
    assert maker.api.upload_folder(repo_id=maker.repo_id, folder_path=folder).oid == first.oid
    (folder / "config.json").write_text("{}")
    second = maker.api.upload_folder(repo_id=maker.repo_id, folder_path=folder, commit_message="Again")
    commits = maker.api.list_repo_commits(maker.repo_id)
    assert [(one.commit_id, one.title) for one in commits] == [
        (second.oid, "Again"),
        (first.oid, "Upload folder using huggingface_hub"),
        (commits[-1].commit_id, "initial commit"),
    ]


def test_upload_that_broke_off_goes_on_where_it_was(maker: Maker, folder: Path) -> None:
    """The first attempt sent the large files; the second one does not send any of their bytes again."""
    large = folder / "model-1.safetensors"
    maker.api.preupload_lfs_files(maker.repo_id, [CommitOperationAdd("model-1.safetensors", large)])
    [staged] = maker.staged
    root = Path(maker.portal.environment["GATEHOUSE_STATE"]) / "weights" / "uploads" / str(maker.pk)
    inode = (root / staged).stat().st_ino
    maker.api.upload_folder(repo_id=maker.repo_id, folder_path=folder)
    blob = maker.portal.order("blob", sha256=staged)["path"]
    assert Path(blob).stat().st_ino == inode


def test_held_upload_is_downloaded_once_it_is_published(holder: Maker, folder: Path, tmp_path: Path) -> None:
    before = holder.api.model_info(holder.repo_id).sha
    first = holder.api.upload_folder(repo_id=holder.repo_id, folder_path=folder)
    second = holder.api.upload_file(
        repo_id=holder.repo_id, path_or_fileobj=b"more", path_in_repo="more.txt", parent_commit=first.oid
    )
    assert holder.api.model_info(holder.repo_id).sha == before
    assert downloaded(holder, tmp_path / "held", revision=second.oid) == content_of(folder) | {
        "more.txt": b"more"
    }
    assert holder.portal.order("publish", commit=second.oid) == {"commit": second.oid}
    assert holder.api.model_info(holder.repo_id).sha == second.oid
    facts = holder.portal.order("facts", repo_id=holder.repo_id)
    assert facts["card"] == (folder / "README.md").read_text()
    assert facts["revisions"][1:] == [[first.oid, before, False], [second.oid, first.oid, False]]


def test_operations_of_one_commit(maker: Maker, tmp_path: Path) -> None:
    api, weights = maker.api, os.urandom(1000)
    files = {"a/x.txt": b"x", "a/y.txt": b"y", "b.txt": b"b", "m.safetensors": weights}
    api.create_commit(
        maker.repo_id,
        [CommitOperationAdd(path, content) for path, content in files.items()],
        commit_message="Add",
    )
    api.create_commit(
        maker.repo_id,
        [
            CommitOperationDelete("a/"),
            CommitOperationDelete("b.txt"),
            CommitOperationCopy("m.safetensors", "n.safetensors"),
            CommitOperationAdd("c.txt", b"c"),
        ],
        commit_message="Change",
    )
    expected = {"c.txt": b"c", "m.safetensors": weights, "n.safetensors": weights}
    assert downloaded(maker, tmp_path) == expected


def test_branch_is_made_and_uploaded_to(maker: Maker) -> None:
    api, main = maker.api, maker.api.model_info(maker.repo_id).sha
    api.create_branch(maker.repo_id, branch="work/diff")
    with pytest.raises(HfHubHTTPError, match="Reference already exists"):
        api.create_branch(maker.repo_id, branch="work/diff")
    api.create_branch(maker.repo_id, branch="work/diff", exist_ok=True)
    info = api.upload_file(
        repo_id=maker.repo_id, path_or_fileobj=b"d", path_in_repo="d.txt", revision="work/diff"
    )
    refs = api.list_repo_refs(maker.repo_id)
    assert {one.name: one.target_commit for one in refs.branches} == {"main": main, "work/diff": info.oid}
    for name in ("..", "refs/heads/x", "a" * 40, "x//y", "-x"):
        with pytest.raises(HfHubHTTPError):
            api.create_branch(maker.repo_id, branch=name)


def test_card_that_would_lose_the_gate_is_refused_before_anything_is_sent(maker: Maker) -> None:
    card = b"---\nextra_gated_fields:\nWhy: text\n---\n"
    with pytest.raises(ValueError, match=r"Line 3 of the card: the field .Why. is not indented"):
        maker.api.upload_file(repo_id=maker.repo_id, path_or_fileobj=card, path_in_repo="README.md")
    assert maker.staged == []


def test_repository_is_created_and_known_when_it_is_there(maker: Maker) -> None:
    api, repo_id = maker.api, f"{maker.repo_id.partition('/')[0]}/fresh"
    assert api.create_repo(repo_id).repo_id == repo_id
    assert api.create_repo(repo_id, exist_ok=True).repo_id == repo_id
    with pytest.raises(HfHubHTTPError, match="You already created this model repo"):
        api.create_repo(repo_id)
    assert sorted(api.list_repo_files(repo_id)) == [".gitattributes"]
    info = api.model_info(repo_id)
    assert (info.private, info.gated) == (True, "manual")
    with pytest.raises(BadRequestError, match="Gatehouse keeps models only"):
        api.create_repo(repo_id, repo_type="dataset")
    listed = api.create_repo(f"{repo_id}-listed", private=False)
    assert api.model_info(listed.repo_id).private is False


def test_pull_request_is_refused_in_words(maker: Maker) -> None:
    with pytest.raises(BadRequestError, match="Gatehouse has no pull requests"):
        maker.api.upload_file(
            repo_id=maker.repo_id, path_or_fileobj=b"x", path_in_repo="x.txt", create_pr=True
        )
    with pytest.raises(RepositoryNotFoundError):
        maker.api.upload_file(repo_id="no/such", path_or_fileobj=b"x", path_in_repo="x.txt")
