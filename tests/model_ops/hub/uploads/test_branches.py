"""Branches as owners and other people see them, and how they are deleted."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from tests.model_ops.hub.uploads.conftest import Maker
from tests.model_ops.hub.uploads.test_attacks import refused

# How the client itself uses its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
EMPTY = "work/diff"


def branches(api: HfApi, repo_id: str) -> list[str]:
    return [one.name for one in api.list_repo_refs(repo_id).branches]


def reader_of(holder: Maker, name: str, state: str = "granted") -> HfApi:
    given = holder.portal.order("person", name=name, repo_id=holder.repo_id, state=state)
    return HfApi(endpoint=holder.portal.url, token=given["token"])


@pytest.fixture
def waiting(holder: Maker) -> Maker:
    """A model that others can read, with a branch left by a broken upload, and one with a held upload."""
    first = holder.api.upload_file(
        repo_id=holder.repo_id, path_or_fileobj=b"w", path_in_repo="model.safetensors"
    )
    holder.portal.order("publish", commit=first.oid)
    for name in (EMPTY, "held"):
        holder.api.create_branch(holder.repo_id, branch=name)
    holder.api.upload_file(
        repo_id=holder.repo_id, path_or_fileobj=b"d", path_in_repo="d.txt", revision="held"
    )
    return holder


def test_branch_without_anything_published_is_its_owners_alone(waiting: Maker) -> None:
    assert branches(waiting.api, waiting.repo_id) == ["held", "main", EMPTY]
    assert waiting.api.model_info(waiting.repo_id, revision=EMPTY).sha
    for state in ("granted", "reviewer", "pending"):
        reader = reader_of(waiting, f"{state}-of-{waiting.pk}", state)
        assert branches(reader, waiting.repo_id) == ["main"]
        with pytest.raises(RevisionNotFoundError):
            reader.model_info(waiting.repo_id, revision=EMPTY)
        with pytest.raises(RevisionNotFoundError):
            reader.list_repo_files(waiting.repo_id, revision="held")
    token = waiting.portal.order(
        "person", name=f"also-granted-{waiting.pk}", repo_id=waiting.repo_id, state="granted"
    )["token"]
    repo, place = waiting.repo_id, quote(EMPTY, safe="")
    for path in (
        f"/{repo}/resolve/{place}/model.safetensors",
        f"/{repo}/resolve/{quote(f'refs/heads/{EMPTY}', safe='')}/model.safetensors",
        f"/{repo}/raw/{place}/model.safetensors",
        f"/{repo}/resolve/held/README.md",
        f"/api/models/{repo}/revision/{place}",
        f"/api/models/{repo}/tree/{place}",
        f"/api/models/{repo}/commits/{place}",
    ):
        assert waiting.portal.ask("GET", path, token=waiting.token).status in {200, 307, 404}, path
        answer = waiting.portal.ask("GET", path, token=token)
        assert (answer.status, answer.headers["x-error-code"]) == (404, "RevisionNotFound"), path
    main = waiting.portal.ask("GET", f"/{repo}/resolve/main/model.safetensors", token=token)
    assert main.status == 307


def test_branch_is_shown_once_something_is_published_on_it(waiting: Maker) -> None:
    reader = reader_of(waiting, f"reads-{waiting.pk}")
    done = waiting.api.upload_file(
        repo_id=waiting.repo_id, path_or_fileobj=b"x", path_in_repo="x.txt", revision=EMPTY
    )
    assert branches(reader, waiting.repo_id) == ["main"]
    waiting.portal.order("publish", commit=done.oid)
    assert branches(reader, waiting.repo_id) == ["main", EMPTY]
    assert reader.model_info(waiting.repo_id, revision=EMPTY).sha == done.oid
    assert "x.txt" in reader.list_repo_files(waiting.repo_id, revision=EMPTY)


def test_client_deletes_a_branch(waiting: Maker) -> None:
    api, repo_id = waiting.api, waiting.repo_id
    api.delete_branch(repo_id, branch=EMPTY)
    assert branches(api, repo_id) == ["held", "main"]
    with pytest.raises(RevisionNotFoundError, match="has no branch of that name"):
        api.delete_branch(repo_id, branch=EMPTY)
    with pytest.raises(HfHubHTTPError, match="is held on held: publish or discard"):
        api.delete_branch(repo_id, branch="held")
    with pytest.raises(BadRequestError, match=r"main is what readers of .* get, and cannot be deleted"):
        api.delete_branch(repo_id, branch="main")
    assert branches(api, repo_id) == ["held", "main"]
    assert waiting.portal.order("facts", repo_id=repo_id)["events"][-1] == "branch.deleted"


def test_only_an_owner_with_a_reviewers_token_deletes_branches(
    waiting: Maker, make_maker: Callable[..., Maker]
) -> None:
    own = waiting.portal.order("token", name=waiting.repo_id.partition("/")[0], kind="user")["token"]
    path = f"/api/models/{waiting.repo_id}/branch/{quote(EMPTY, safe='')}"
    waiting.portal.order("person", name="just-reviews", repo_id=waiting.repo_id, state="reviewer")
    other = waiting.portal.order("token", name="just-reviews")["token"]
    refused(waiting.portal.ask("DELETE", path, token=own), 403, "takes a reviewer token")
    refused(waiting.portal.ask("DELETE", path, token=other), 403, "Only an owner")
    refused(waiting.portal.ask("DELETE", path), 404, "Repository not found")
    refused(waiting.portal.ask("DELETE", path, token=make_maker().token), 404, "Repository not found")
    assert EMPTY in branches(waiting.api, waiting.repo_id)
