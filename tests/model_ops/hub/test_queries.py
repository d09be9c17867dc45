"""The hub sends a constant number of database queries, however many files or models there are."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from access_requests.enums import TokenKind
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from model_ops.hub.listing import add_last_commits, path_items, tree_items
from model_ops.models import Blob, Ref, RepoFile, Revision
from tests.model_ops.hub import seeder


@pytest.fixture
def granted(
    make_person: Callable[..., Any], make_model: Callable[..., Any], settings: Settings, tmp_path: Path
) -> Client:
    """A client with a token for `ai/tulu` whose use has already been recorded."""
    settings.WEIGHTS_ROOT = tmp_path
    model = make_model("ai/tulu")
    made = grant_access(model=model, email=make_person("ada").email, days=9, token_name="laptop")
    client = Client(headers={"Authorization": f"Bearer {made.secret}"}, REMOTE_ADDR="192.0.2.7")
    seeder.commit("ai/tulu", {"a.bin": "AAAA"})
    assert client.get("/api/whoami-v2").status_code == 200
    return client


def queries(client: Client, method: str, path: str, **options: Any) -> int:
    with CaptureQueriesContext(connection) as asked:
        response = getattr(client, method)(path, **options)
        b"".join(response)
    assert response.status_code in {200, 307}, path
    return len(asked)


PATHS = [
    ("get", "/api/models/ai/tulu", 5),
    ("get", "/api/models/ai/tulu/revision/main?blobs=true", 5),
    ("get", "/api/models/ai/tulu?expand=config", 5),
    ("get", "/api/models/ai/tulu/tree/main?recursive=true", 4),
    ("get", "/api/models/ai/tulu/tree/main?recursive=true&expand=true", 7),
    ("get", "/api/models/ai/tulu/refs", 3),
    ("get", "/api/models/ai/tulu/commits/main", 5),
    ("get", "/api/models/ai/tulu/auth-check", 2),
    ("get", "/api/models?full=true&config=true", 9),
    ("head", "/ai/tulu/resolve/main/a.bin", 3),
    ("get", "/ai/tulu/raw/main/a.bin", 3),
]


@pytest.mark.parametrize(("method", "path", "most"), PATHS)
def test_hub_route_asks_as_much_of_many_as_of_one(
    granted: Client, make_model: Callable[..., Any], method: str, path: str, most: int
) -> None:
    before = queries(granted, method, path)
    assert before <= most
    content = base64.b64encode(b"x").decode()
    for number in range(3):
        added = {f"folder-{n % 5}/{number}-{n}.txt": content for n in range(20)}
        assert len(seeder.commit("ai/tulu", added)["commit"]) == 40
    for number in range(5):
        make_model(f"ai/more-{number}")
        seeder.commit(f"ai/more-{number}", {"a.bin": "AAAA", "config.json": "e30="})
    assert queries(granted, method, path) == before


class Watched(list[Any]):
    """A list that counts how often it is iterated."""

    walks = 0

    def __iter__(self) -> Iterator[Any]:
        self.walks += 1
        return super().__iter__()


def test_last_commits_of_many_paths_go_through_the_files_as_often_as_of_one(
    make_model: Callable[..., Any], settings: Settings, tmp_path: Path
) -> None:
    settings.WEIGHTS_ROOT = tmp_path
    make_model("ai/tulu")
    commit = seeder.commit("ai/tulu", {f"in/{n}.txt": "YQ==" for n in range(20)})["commit"]
    revision = Revision.objects.get(commit=commit)
    walks = []
    for count in (1, 20):
        files = Watched(revision.files.all())
        items: list[dict[str, Any]] = [{"path": file.path} for file in files[:count]]
        add_last_commits(items, files, [revision.pk])
        assert {item["lastCommit"]["id"] for item in items} == {commit}
        walks.append(files.walks)
    assert walks[0] == walks[1]


def test_ids_of_many_folders_come_of_one_pass_over_the_files() -> None:
    """Every folder of a deep chain contains all files: hashing them for each folder would take minutes."""
    deep = "/".join("d" * 240)
    files = [
        RepoFile(path=f"{deep}/{n}", blob=Blob(sha256=f"{n:064x}", git_oid=f"{n:040x}", size=1), is_lfs=False)
        for n in range(5_000)
    ]
    chain = ["/".join("d" * depth) for depth in range(1, 241)]
    found = path_items(files, chain, is_masked=lambda file: False)
    assert [item["path"] for item in found] == chain
    assert len({item["oid"] for item in found}) == 240
    listed = tree_items(files, folder="", recursive=True, is_masked=lambda file: False)
    assert [item for item in listed if item["type"] == "directory"] == found
    masked = path_items(files, chain, is_masked=lambda file: file.path.endswith("/7"))
    assert {item["oid"] for item in masked} == {"*" * 40}


@pytest.mark.parametrize("kind", ["grant", "user", "role"])
def test_file_costs_three_questions_by_every_kind_of_token(
    make_person: Callable[..., Any],
    make_model: Callable[..., Any],
    settings: Settings,
    tmp_path: Path,
    kind: str,
) -> None:
    settings.WEIGHTS_ROOT = tmp_path
    person, model = make_person("ada"), make_model("ai/tulu")
    if kind == "role":
        assign_role(model=model, user=person, role="owner")
    else:
        granted = grant_access(model=model, email=person.email, days=9, token_name="laptop")
    commit = seeder.commit("ai/tulu", {"a.bin": "AAAA", "a.json": "e30="})["commit"]
    person_kind = {"user": TokenKind.USER, "role": TokenKind.REVIEWER}
    secret = granted.secret if kind == "grant" else seeder.person_token(person, person_kind[kind])
    client = Client(headers={"Authorization": f"Bearer {secret}"}, REMOTE_ADDR="192.0.2.7")
    Ref.objects.create(model=model, name="v1", is_tag=True, revision=Revision.objects.get(commit=commit))
    for name in ("a.bin", "a.json"):
        for revision in ("main", "v1", commit):
            path = f"/ai/tulu/resolve/{revision}/{name}"
            assert [queries(client, method, path) for method in ("head", "get")] == [3, 3], path


def test_file_of_an_open_model_costs_two_questions_without_a_token(
    make_model: Callable[..., Any], settings: Settings, tmp_path: Path
) -> None:
    settings.WEIGHTS_ROOT = tmp_path
    make_model("ai/open", gate="none")
    commit = seeder.commit("ai/open", {"a.bin": "AAAA"})["commit"]
    path = f"/ai/open/resolve/{commit}/a.bin"
    assert [queries(Client(), method, path) for method in ("head", "get")] == [2, 2]
