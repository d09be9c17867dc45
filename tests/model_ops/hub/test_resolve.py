from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest

from model_ops.recovery.formats.git_ids import blob_id
from model_ops.services.store.git_objects import StoredFile, pointer
from tests.model_ops.hub.conftest import MODEL, Portal


def test_resolve_of_a_branch_is_pinned_to_its_commit(portal: Portal) -> None:
    for method in ("HEAD", "GET"):
        answer = portal.ask(
            method, f"/{MODEL}/resolve/main/config.json?download=true", token=portal.tokens["granted"]
        )
        location = f"/{MODEL}/resolve/{portal.commit}/config.json?download=true"
        assert (answer.status, answer.headers["location"]) == (307, location)
        assert answer.headers["x-repo-commit"] == portal.commit


def test_head_says_all_that_a_download_needs(portal: Portal) -> None:
    content = portal.files["model.safetensors"]
    answer = portal.head(f"/{MODEL}/resolve/{portal.commit}/model.safetensors", "granted")
    sha256 = hashlib.sha256(content).hexdigest()
    expected = {
        "x-repo-commit": portal.commit,
        "etag": f'"{sha256}"',
        "x-linked-etag": f'"{sha256}"',
        "x-linked-size": str(len(content)),
        "content-length": str(len(content)),
        "accept-ranges": "bytes",
        "content-type": "application/octet-stream",
        "content-disposition": "inline; filename*=UTF-8''model.safetensors; filename=\"model.safetensors\";",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert not [name for name in answer.headers if name.startswith("x-xet")]


def test_small_files_have_their_git_id_as_etag(portal: Portal) -> None:
    answer = portal.get(f"/{MODEL}/resolve/{portal.commit}/config.json", "granted")
    assert (answer.body, answer.headers["etag"]) == (portal.files["config.json"], f'"{blob_id(answer.body)}"')


def test_lfs_is_decided_by_pattern_not_by_size(portal: Portal) -> None:
    answer = portal.head(f"/{MODEL}/resolve/{portal.commit}/extra/deep/head.bin", "granted")
    assert answer.headers["etag"] == f'"{hashlib.sha256(b"seven b").hexdigest()}"'


def test_missing_file_has_a_code_and_the_commit(portal: Portal) -> None:
    for path in ("absent.json", "extra", "extra/", "", "../README.md", "extra//notes.txt"):
        for method in ("HEAD", "GET"):
            answer = portal.ask(method, f"/{MODEL}/resolve/main/{path}", token=portal.tokens["granted"])
            assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound"), path
            assert answer.headers["x-repo-commit"] == portal.commit
            assert "x-hf-warning" not in answer.headers


def test_missing_revision_has_a_code(portal: Portal) -> None:
    for revision in ("nope", "0" * 40, "refs%2Fpr%2F1", quote(portal.commit[:7])):
        for path in (
            f"/{MODEL}/resolve/{revision}/config.json",
            f"/api/models/{MODEL}/revision/{revision}",
            f"/api/models/{MODEL}/tree/{revision}",
        ):
            answer = portal.get(path, "granted")
            assert (answer.status, answer.headers["x-error-code"]) == (404, "RevisionNotFound"), path


def test_branches_and_tags_with_slashes_are_found(portal: Portal) -> None:
    for name, tag in (("refs/pr/1", False), ("release/v1", True)):
        portal.order("branch", repo_id=MODEL, name=name, tag=tag)
        answer = portal.get(f"/{MODEL}/resolve/{quote(name, safe='')}/extra/notes.txt", "granted")
        assert answer.headers["location"] == f"/{MODEL}/resolve/{portal.commit}/extra/notes.txt"
        assert portal.get(f"/api/models/{MODEL}/revision/{quote(name, safe='')}").json["sha"] == portal.commit


def test_awkward_names_are_served_and_quoted(portal: Portal) -> None:
    name = "what? 100%: a,b é.json"
    answer = portal.get(f"/{MODEL}/resolve/main/{quote(name)}", "granted")
    assert answer.headers["location"] == f"/{MODEL}/resolve/{portal.commit}/{quote(name)}"
    answer = portal.get(answer.headers["location"], "granted")
    assert answer.body == b"{}\n"
    disposition = f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"what? 100_: a,b _.json\";"
    assert answer.headers["content-disposition"] == disposition


def test_markup_is_served_as_text(portal: Portal) -> None:
    commit = portal.order(
        "commit", repo_id=MODEL, revision="web", add={"page.html": "PGI+", "a.svg": "PGI+", "x.js": "PGI+"}
    )["commit"]
    for name in ("page.html", "a.svg", "x.js"):
        answer = portal.get(f"/{MODEL}/resolve/{commit}/{name}", "granted")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_id_in_another_case_finds_the_model(portal: Portal) -> None:
    answer = portal.get(f"/{MODEL.upper()}/resolve/main/config.json", "granted")
    assert answer.headers["location"] == f"/{MODEL}/resolve/{portal.commit}/config.json"


def test_raw_shows_what_git_holds(portal: Portal) -> None:
    content = portal.files["model.safetensors"]
    sha256 = hashlib.sha256(content).hexdigest()
    text = pointer(StoredFile("", sha256, "", len(content)))
    answer = portal.get(f"/{MODEL}/raw/main/model.safetensors", "granted")
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, text, f'"{blob_id(text)}"')
    answer = portal.get(f"/{MODEL}/raw/main/README.md", "granted")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert portal.get(f"/{MODEL}/raw/main/absent", "granted").headers["x-error-code"] == "EntryNotFound"


@pytest.mark.parametrize(
    "path",
    [
        "/gpt2/resolve/main/config.json",
        "/api/models/gpt2",
        "/api/models/gpt2/revision/main",
        "/api/models/gpt2/tree/main",
        "/api/models/no/such",
        "/no/such/resolve/main/x",
        "/datasets/no/such/resolve/main/x",
        "/datasets/squad/resolve/main/x",
        "/api/datasets/no/such",
        "/api/datasets/squad/revision/main",
        "/api/spaces/no/such/tree/main",
        f"/api/datasets/{MODEL}",
        "/api/models/a--b/c",
        "/api/models/no/such/discussions",
    ],
)
def test_unknown_repository_has_a_code(portal: Portal, path: str) -> None:
    for who in ("anonymous", "granted", "unknown"):
        answer = portal.get(path, who)
        assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")
    assert (
        "not a Gatehouse token" in answer.headers["x-error-message"]
        or "datasets" in path
        or "gpt2" in path
        or "spaces" in path
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused_with_a_code(portal: Portal, method: str) -> None:
    for path in (f"/{MODEL}/resolve/main/config.json", f"/api/models/{MODEL}", "/api/whoami-v2"):
        answer = portal.ask(method, path, token=portal.tokens["granted"])
        assert (answer.status, answer.headers["x-error-code"], answer.headers["allow"]) == (
            405,
            "MethodNotAllowed",
            "GET, HEAD",
        )


def test_trace_id_is_echoed_with_an_error(portal: Portal) -> None:
    path = f"/{MODEL}/resolve/main/config.json"
    assert portal.ask("GET", path, x_amzn_trace_id="Root=1-abc").headers["x-request-id"] == "Root=1-abc"
    assert len(portal.ask("GET", path, x_amzn_trace_id="<odd> id").headers["x-request-id"]) == 36
