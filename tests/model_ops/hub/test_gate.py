from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError

from model_ops.recovery.formats.git_ids import blob_id
from model_ops.services.store.git_objects import StoredFile, pointer
from tests.model_ops.hub.conftest import MODEL, Portal

NOT_LISTED = f"Access to model {MODEL} is restricted and you are not in the authorized list. "
LOG_IN = (
    f"Access to model {MODEL} is restricted. You must have access to it and be authenticated to access it. "
    "Please log in. "
)
AWAITING = f"Your request to access model {MODEL} is awaiting a review from the repo authors. "
# People who are refused: status, the Hub's opening words, and how our sentence begins.
REFUSED = {
    "anonymous": (401, LOG_IN, "Sign in and ask for access at {page}"),
    "unknown": (401, LOG_IN, "This is not a Gatehouse token"),
    "ended_token": (401, LOG_IN, "This token was revoked on "),
    "disabled": (401, LOG_IN, "The account of this token is disabled"),
    "stranger": (403, NOT_LISTED, "Ask for access at {page}"),
    "draft": (403, NOT_LISTED, "Your request #"),
    "pending": (403, AWAITING, "Your request #"),
    "changes_requested": (403, AWAITING, "The reviewer asked for changes to your request #"),
    "rejected": (
        403,
        f"Your request to access model {MODEL} has been rejected by the repo's authors. ",
        "Your request #",
    ),
    "reset": (403, f"Your access to model {MODEL} has been reset. ", "A reviewer closed your request #"),
    "withdrawn": (403, NOT_LISTED, "You withdrew your request #"),
    "expired": (403, f"Your access to model {MODEL} has been reset. ", "Your access ended on "),
    "revoked": (403, f"Your access to model {MODEL} has been reset. ", "Your access was revoked on "),
    "out_of_scope": (403, f"Access to model {MODEL} is restricted. ", "This token belongs to another grant"),
}
GATED_PATHS = [
    f"/{MODEL}/resolve/main/config.json",
    f"/{MODEL}/resolve/main/model.safetensors",
    f"/{MODEL}/resolve/main/extra/deep/head.bin",
    f"/{MODEL}/resolve/main/.gitattributes",
    f"/{MODEL}/resolve/main/readme.md",
    f"/{MODEL}/resolve/main/LICENCE",
    f"/{MODEL}/resolve/main/extra/README.md",
    f"/{MODEL}/resolve/main/absent.json",
    f"/{MODEL}/resolve/no-such-branch/config.json",
    f"/{MODEL}/raw/main/README.md",
    f"/{MODEL}/raw/main/model.safetensors",
    f"/api/models/{MODEL}/auth-check",
]
OPEN_PATHS = [
    f"/api/models/{MODEL}",
    f"/api/models/{MODEL}?blobs=true&securityStatus=true",
    f"/api/models/{MODEL}/revision/main?blobs=true",
    f"/api/models/{MODEL}?expand=siblings&expand=sha&expand=cardData&expand=usedStorage",
    f"/api/models/{MODEL}/tree/main?recursive=true&expand=true",
    f"/api/models/{MODEL}/tree/main/extra",
    f"/api/models/{MODEL}/refs",
    f"/api/models/{MODEL}/commits/main",
    "/api/models?full=true&author=maker",
    f"/{MODEL}/resolve/main/README.md",
    f"/{MODEL}/resolve/main/tiny_license.txt",
    f"/{MODEL}/resolve/main/LICENSE",
]


@pytest.mark.parametrize("who", REFUSED)
def test_gated_content_is_refused_with_code_and_sentence(portal: Portal, who: str) -> None:
    status, opening, sentence = REFUSED[who]
    page = f"{portal.url}/{MODEL}"
    for path in GATED_PATHS:
        for method in ("HEAD", "GET"):
            answer = portal.ask(method, path, token=portal.tokens[who])
            assert (answer.status, answer.headers["x-error-code"]) == (status, "GatedRepo"), (method, path)
            message = answer.headers["x-error-message"]
            assert message.startswith(opening + sentence.format(page=page)), (method, path)
            assert page in message
            assert answer.headers["x-hf-warning"] == f"access; {message}"
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
            if method == "GET":
                assert (answer.json["error"] if path.startswith("/api/") else answer.text) == message


def secret_ids(portal: Portal) -> list[str]:
    """Return every id, in hex, of the contents of gated files."""
    ids = []
    for path, content in portal.files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        ids += [sha256, blob_id(content), hashlib.sha1(content, usedforsecurity=False).hexdigest()]
        ids.append(blob_id(pointer(StoredFile(path, sha256, "", len(content)))))
    return ids


def test_ids_are_shown_to_those_with_access(portal: Portal) -> None:
    """People with access see the ids that the next test looks for."""
    sha256 = hashlib.sha256(portal.files["model.safetensors"]).hexdigest()
    assert sha256 in portal.get(f"/api/models/{MODEL}/tree/main", "granted").text
    assert sha256 in portal.get(f"/api/models/{MODEL}?blobs=true", "granted").text
    assert (
        sha256
        in portal.head(f"/{MODEL}/resolve/{portal.commit}/model.safetensors", "granted").headers["etag"]
    )
    assert (
        blob_id(portal.files["config.json"]) in portal.get(f"/api/models/{MODEL}/tree/main", "granted").text
    )


@pytest.mark.parametrize("who", REFUSED)
def test_no_byte_or_hash_of_gated_files_reaches_the_refused(portal: Portal, who: str) -> None:
    weights = portal.files["model.safetensors"]
    looked_for = [*secret_ids(portal), weights[1000:1032].hex(), weights[-32:].hex()]
    answers = [
        portal.ask(method, path, token=portal.tokens[who])
        for method in ("GET", "HEAD")
        for path in GATED_PATHS + OPEN_PATHS
    ]
    paths = "&".join(
        f"paths={path}" for path in ("model.safetensors", "config.json", "extra", "extra/deep/head.bin")
    )
    form = "application/x-www-form-urlencoded"
    url = f"/api/models/{MODEL}/paths-info/main"
    answers.append(
        portal.ask(
            "POST", url, token=portal.tokens[who], body=f"{paths}&expand=true".encode(), content_type=form
        )
    )
    commit_path = f"/{MODEL}/resolve/{portal.commit}/model.safetensors"
    answers.append(portal.ask("GET", commit_path, token=portal.tokens[who], range="bytes=0-99"))
    for answer in answers:
        seen = answer.text + answer.body.hex() + repr(answer.headers)
        assert [secret for secret in looked_for if secret in seen] == []


@pytest.mark.parametrize("who", ["anonymous", "pending", "revoked", "unknown"])
def test_tree_and_info_are_masked_without_access(portal: Portal, who: str) -> None:
    items = {item["path"]: item for item in portal.get(f"/api/models/{MODEL}/tree/main", who).json}
    weights = items["model.safetensors"]
    assert weights["lfs"]["oid"] == "*" * 64
    assert (weights["size"], weights["lfs"]["size"]) == (len(portal.files["model.safetensors"]),) * 2
    assert (weights["oid"], items["config.json"]["oid"], items["extra"]["oid"]) == ("*" * 40,) * 3
    card = portal.get(f"/{MODEL}/resolve/main/README.md", who)
    assert items["README.md"]["oid"] == portal.get(card.headers["location"], who).headers["etag"].strip('"')
    siblings = {
        item["rfilename"]: item
        for item in portal.get(f"/api/models/{MODEL}?blobs=true", who).json["siblings"]
    }
    assert siblings["model.safetensors"]["lfs"]["sha256"] == "*" * 64
    assert siblings["config.json"]["blobId"] == "*" * 40


@pytest.mark.parametrize("who", ["anonymous", "rejected", "unknown", "granted"])
def test_card_and_licence_are_public(portal: Portal, who: str) -> None:
    for name in ("README.md", "tiny_license.txt"):
        answer = portal.get(f"/{MODEL}/resolve/{portal.commit}/{name}", who)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert answer.headers["content-disposition"].startswith("inline;")
        assert answer.headers["etag"] == f'"{blob_id(answer.body)}"'
        assert answer.headers["x-repo-commit"] == portal.commit


def test_absent_licence_is_not_found_rather_than_refused(portal: Portal) -> None:
    answer = portal.get(f"/{MODEL}/resolve/main/LICENSE")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")
    assert answer.headers["x-repo-commit"] == portal.commit


def test_weights_named_like_a_licence_stay_gated(portal: Portal) -> None:
    portal.order("model", repo_id="maker/sly", licences=[("weights.bin", "en", "Be kind.\n")])
    portal.order("commit", repo_id="maker/sly", add={"weights.bin": "AAAA"})
    answer = portal.get("/maker/sly/resolve/main/weights.bin")
    assert (answer.status, answer.headers["x-error-code"]) == (401, "GatedRepo")


@pytest.mark.parametrize("who", ["granted", "reviewer", "ends_soon"])
def test_gated_content_is_served_to_those_with_access(portal: Portal, who: str) -> None:
    answer = portal.get(f"/{MODEL}/resolve/{portal.commit}/model.safetensors", who)
    assert (answer.status, answer.body) == (200, portal.files["model.safetensors"])
    assert portal.get(f"/api/models/{MODEL}/auth-check", who).text == "OK"


def test_ending_grant_is_announced(portal: Portal) -> None:
    warning = portal.get(f"/api/models/{MODEL}", "ends_soon").headers["x-hf-warning"]
    assert warning.startswith(f"access; You may read {MODEL} until ")
    assert "x-hf-warning" not in portal.get(f"/api/models/{MODEL}", "granted").headers


def test_cookie_is_not_a_token(portal: Portal) -> None:
    answer = portal.ask("GET", f"/{MODEL}/resolve/main/config.json", cookie="gatehouse_session=abc")
    assert answer.status == 401


def test_other_authorization_scheme_is_explained(portal: Portal) -> None:
    answer = portal.ask("GET", f"/{MODEL}/resolve/main/config.json", authorization="Basic dTpw")
    assert answer.status == 401
    assert "must read 'Bearer TOKEN'" in answer.headers["x-error-message"]


@pytest.mark.parametrize("who", REFUSED)
def test_client_raises_gated_repo_error_with_our_sentence(
    portal: Portal, who: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = portal.tokens[who] or False
    _, opening, _ = REFUSED[who]
    page = f"{portal.url}/{MODEL}"
    with pytest.raises(GatedRepoError) as refused:
        hf_hub_download(MODEL, "model.safetensors", endpoint=portal.url, token=token, cache_dir=tmp_path)
    assert opening.strip() in str(refused.value)
    assert page in str(refused.value)
    with pytest.raises(GatedRepoError) as refused:
        HfApi(endpoint=portal.url).auth_check(MODEL, token=token)
    assert page in str(refused.value)
    with pytest.raises(GatedRepoError) as refused:
        snapshot_download(MODEL, endpoint=portal.url, token=token, cache_dir=tmp_path)
    assert page in str(refused.value)
    weights = portal.files["model.safetensors"]
    assert [
        path for path in tmp_path.rglob("*") if path.is_file() and weights[:64] in path.read_bytes()
    ] == []


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("planned", "being recovered, 0 %"),
        ("running", "being recovered, 42 %"),
        ("failed", "could not be made (failed)"),
    ],
)
def test_weights_not_made_yet_are_a_coded_refusal_for_those_with_a_grant(
    portal: Portal, state: str, said: str
) -> None:
    repo_id = f"maker/{state}"
    portal.order("model", repo_id=repo_id)
    portal.order("recovery", repo_id=repo_id, state=state, done=42 if state == "running" else 0)
    token = portal.order("person", name=f"waits-for-{state}", repo_id=repo_id, state="granted")["token"]
    for path in (
        f"/api/models/{repo_id}",
        f"/api/models/{repo_id}/revision/main",
        f"/api/models/{repo_id}/tree/main",
        f"/{repo_id}/resolve/main/config.json",
        f"/{repo_id}/resolve/no-branch/config.json",
    ):
        answer = portal.ask("GET", path, token=token)
        assert (answer.status, answer.headers["x-error-code"]) == (403, "GatedRepo"), path
        assert said in answer.headers["x-error-message"]
        assert answer.headers["x-hf-warning"] == f"access; {answer.headers['x-error-message']}"
    for name in ("README.md", "tiny_license.txt"):
        answer = portal.ask("GET", f"/{repo_id}/resolve/main/{name}", token=token)
        assert answer.status == 307
        assert portal.ask("GET", answer.headers["location"], token=token).status == 200
    assert portal.get(f"/api/models/{repo_id}").status == 200
    with pytest.raises(GatedRepoError, match="weights of maker"):
        HfApi(endpoint=portal.url, token=token).model_info(repo_id)


def test_hidden_model_is_unknown_to_those_who_may_not_know_of_it(portal: Portal) -> None:
    repo_id = "maker/hidden"
    portal.order("model", repo_id=repo_id, listed=False)
    portal.order("commit", repo_id=repo_id, add={"config.json": "e30="})
    token = portal.order("person", name="insider", repo_id=repo_id, state="granted")["token"]
    for path in (
        f"/api/models/{repo_id}",
        f"/{repo_id}/resolve/main/README.md",
        f"/api/models/{repo_id}/auth-check",
    ):
        for who in ("anonymous", "granted"):
            answer, other = portal.get(path, who), portal.get(path.replace("hidden", "absent"), who)
            assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")
            assert answer.headers["x-error-message"] == other.headers["x-error-message"].replace(
                "absent", "hidden"
            )
        assert portal.ask("GET", path, token=token).status in {200, 307}
    assert repo_id not in portal.get("/api/models").text
    assert repo_id in portal.ask("GET", "/api/models", token=token).text


def test_model_without_gate_is_readable_by_anybody(portal: Portal) -> None:
    repo_id = "maker/open"
    portal.order("model", repo_id=repo_id, gate="none")
    commit = portal.order("commit", repo_id=repo_id, add={"model.bin": "AAAA"})["commit"]
    for who in ("anonymous", "unknown", "stranger"):
        assert portal.get(f"/{repo_id}/resolve/{commit}/model.bin", who).body == b"\0\0\0"
        assert portal.get(f"/api/models/{repo_id}/auth-check", who).text == "OK"
        assert portal.get(f"/api/models/{repo_id}", who).json["gated"] is False
    items = {item["path"]: item for item in portal.get(f"/api/models/{repo_id}/tree/main").json}
    assert items["model.bin"]["lfs"]["oid"] == hashlib.sha256(b"\0\0\0").hexdigest()
