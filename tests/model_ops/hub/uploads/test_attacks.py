"""Attacks on the upload routes, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.model_ops.hub.conftest import Answer, Portal
from tests.model_ops.hub.uploads.conftest import Maker
from tests.waiting import wait_until

CONTENT = os.urandom(400_000)
SHA256, SIZE = hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)
STREAM = CONTENT * 5  # more than the web server buffers: read while it arrives
HEADER = {"key": "header", "value": {"summary": "Attack"}}


def post(maker: Maker, path: str, data: Any, token: str | None = "") -> Answer:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    token = maker.token if token == "" else token
    return maker.portal.ask("POST", path, token=token, body=body, content_type="application/json")


def batch(maker: Maker, *objects: tuple[str, int], token: str | None = "", **more: Any) -> Answer:
    wanted = [{"oid": oid, "size": size} for oid, size in objects]
    data = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": wanted} | more
    return post(maker, f"/{maker.repo_id}.git/info/lfs/objects/batch", data, token)


def commit(maker: Maker, *operations: dict[str, Any], header: Any = HEADER, branch: str = "main") -> Answer:
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in (header, *operations))
    return post(maker, f"/api/models/{maker.repo_id}/commit/{branch}", lines)


def small(path: Any, content: Any = "eA==") -> dict[str, Any]:
    return {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}


def large(path: str, oid: Any = SHA256, size: Any = SIZE) -> dict[str, Any]:
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": size}}


def address(maker: Maker, content: bytes = CONTENT) -> str:
    """Return the path for sending the object, from a batch answer."""
    answer = batch(maker, (hashlib.sha256(content).hexdigest(), len(content)))
    assert answer.status == 200, answer.text
    return urlsplit(answer.json["objects"][0]["actions"]["upload"]["href"]).path


def stream_address(maker: Maker) -> str:
    """Return the path for sending STREAM in one piece."""
    answer = batch(maker, (hashlib.sha256(STREAM).hexdigest(), len(STREAM)), transfers=["basic"])
    return urlsplit(answer.json["objects"][0]["actions"]["upload"]["href"]).path


def put(portal: Portal, path: str, body: bytes) -> Answer:
    return portal.ask("PUT", path, body=body)


def refused(answer: Answer, status: int, words: str) -> None:
    """Check that the answer is a refusal with a code and a sentence in its headers, not an HTML page."""
    assert (answer.status, words in answer.headers["x-error-message"]) == (status, True), answer.text
    assert answer.headers["x-error-code"]
    assert "<html" not in answer.text.lower()


def test_right_bytes_are_kept_and_named_by_a_commit(maker: Maker) -> None:
    path = address(maker)
    assert put(maker.portal, path, CONTENT).status == 200
    assert post(maker, f"{path}/verify", {"oid": SHA256, "size": SIZE}).status == 200
    assert "actions" not in batch(maker, (SHA256, SIZE)).json["objects"][0]  # a rerun continues from here
    done = commit(maker, large("model.safetensors")).json
    assert done["commitUrl"] == f"{maker.portal.url}/{maker.repo_id}/commit/{done['commitOid']}"
    assert (done["success"], done["pullRequestUrl"], maker.staged) == (True, None, [])
    assert "actions" not in batch(maker, (SHA256, SIZE)).json["objects"][0]


@pytest.mark.parametrize("body", [bytes(SIZE), CONTENT[:-1] + b"x"])
def test_other_bytes_are_refused_and_removed(maker: Maker, body: bytes) -> None:
    path = address(maker)
    refused(put(maker.portal, path, body), 400, "nothing was kept")
    assert maker.staged == []
    refused(post(maker, f"{path}/verify", {"oid": SHA256, "size": SIZE}), 422, "has not arrived")
    refused(commit(maker, large("model.safetensors")), 422, "has not been sent for this model")


@pytest.mark.parametrize("body", [CONTENT + b"x", CONTENT[:-1], b""])
def test_another_size_is_refused_before_it_is_read(maker: Maker, body: bytes) -> None:
    refused(put(maker.portal, address(maker), body), 400, "were agreed on")
    assert maker.staged == []


def test_object_that_is_too_large_is_refused_beforehand(maker: Maker) -> None:
    [found] = batch(maker, (SHA256, 40_000_000_000)).json["objects"]
    assert (found["error"]["code"], "actions" in found) == (413, False)
    assert "larger than this portal takes" in found["error"]["message"]


def test_object_that_does_not_fit_on_the_disk_is_refused_beforehand(maker: Maker) -> None:
    sizes = [(f"{number:064x}", 30_000_000_000) for number in range(1000)]
    answer = batch(maker, *sizes).json["objects"]
    assert {one["error"]["code"] for one in answer} == {507}


def test_address_is_good_for_its_owner_its_object_and_a_day(
    maker: Maker, make_maker: Callable[..., Maker]
) -> None:
    portal, other = maker.portal, make_maker()
    made: dict[str, Any] = {
        "repo_id": maker.repo_id,
        "secret": maker.token,
        "sha256": SHA256,
        "size": SIZE,
    }
    old = portal.order("address", **made, age=24 * 3600 + 5)["signed"]
    refused(put(portal, f"/api/uploads/{old}", CONTENT), 403, "has ended")

    path = address(maker)
    for wrong in (f"{path}x", path[:-1], path.replace("/api/uploads/", "/api/uploads/x"), "/api/uploads/x"):
        refused(put(portal, wrong, CONTENT), 403, "was not made here")

    elsewhere = portal.order("address", **(made | {"repo_id": maker.repo_id, "secret": other.token}))[
        "signed"
    ]
    refused(put(portal, f"/api/uploads/{elsewhere}", CONTENT), 403, "may not upload here any more")
    assert maker.staged == []


def test_address_ends_with_the_role_of_its_owner(maker: Maker) -> None:
    path = address(maker)
    maker.portal.order("role", repo_id=maker.repo_id, name=maker.repo_id.partition("/")[0], given="reviewer")
    refused(put(maker.portal, path, CONTENT), 403, "may not upload here any more")
    assert maker.staged == []


def test_hash_of_somebody_elses_file_is_no_different_from_a_made_up_one(
    maker: Maker, make_maker: Callable[..., Maker]
) -> None:
    put(maker.portal, address(maker), CONTENT)
    commit(maker, large("model.safetensors"))
    thief = make_maker()
    answer = batch(thief, (SHA256, SIZE), ("0" * 64, SIZE)).json["objects"]
    assert [sorted(one["actions"]) for one in answer] == [["upload", "verify"]] * 2
    first, second = commit(thief, large("x.bin")), commit(thief, large("x.bin", "0" * 64))
    assert (first.status, first.text.replace(SHA256, "")) == (422, second.text.replace("0" * 64, ""))
    copied = {"key": "lfsFile", "value": {"path": "x.bin", "algo": "sha256", "oid": SHA256}}
    refused(commit(thief, copied), 422, "has not been sent")


WHO = {
    "anonymous": (401, "Invalid username or password."),
    "unknown": (401, "not known here"),
    "reader": (403, "This is a user token, which only reads"),
    "stranger": (404, "Repository not found"),
    "reviewer": (403, "Only an owner of"),
}


def test_only_owners_with_a_reviewer_token_write(maker: Maker, make_maker: Callable[..., Maker]) -> None:
    portal, owner = maker.portal, maker.repo_id.partition("/")[0]
    stranger = make_maker()
    reviewer = make_maker()
    portal.order("role", repo_id=maker.repo_id, name=reviewer.repo_id.partition("/")[0], given="reviewer")
    listed = f"/api/models/{maker.repo_id}"
    tokens = {
        "anonymous": None,
        "unknown": "gth_" + "0" * 38,
        "reader": portal.order("token", name=owner, kind="user")["token"],
        "stranger": stranger.token,
        "reviewer": reviewer.token,
    }
    bodies = {
        f"{listed}/preupload/main": {"files": [{"path": "a", "size": 1}]},
        f"{listed}/commit/main": HEADER,
        f"{listed}/branch/new": {},
        f"/{maker.repo_id}.git/info/lfs/objects/batch": {"operation": "upload", "objects": []},
    }
    for who, token in tokens.items():
        for path, data in bodies.items():
            answer = post(maker, path, data, token)
            status, words = WHO[who]
            if who in {"anonymous", "unknown"}:  # strangers cannot find an unlisted model
                assert answer.status in {401, 404}, (who, path)
                continue
            refused(answer, status, words)
    assert [path for path, data in bodies.items() if post(maker, path, data).status != 200] == []


def test_creating_needs_a_right_in_the_namespace(maker: Maker, make_maker: Callable[..., Maker]) -> None:
    mine, theirs = maker.repo_id.partition("/")[0], make_maker().repo_id.partition("/")[0]
    create = "/api/repos/create"
    refused(
        post(maker, create, {"name": "x", "organization": mine}, None), 401, "Invalid username or password."
    )
    refused(post(maker, create, {"name": "x", "organization": theirs}), 403, "You own no model in")
    refused(post(maker, create, {"name": "x", "organization": "admin"}), 403, "You own no model in")
    for name in ("..", "a--b", "a/b", "", "x.git", "é", "a" * 97, "a\nb"):
        refused(post(maker, create, {"name": name, "organization": mine}), 400, "")
    for wrong in ({"name": 7}, {"name": "x", "type": "dataset"}, {"name": "x", "type": 1}, {"name": "x", "visibility": "odd"}, {"name": "x", "private": "no"}, []):  # fmt: skip
        assert post(maker, create, wrong).status == 400, wrong
    made = post(maker, create, {"name": "second", "organization": mine})
    assert (made.status, made.json["url"]) == (200, f"{maker.portal.url}/{mine}/second")
    facts = maker.portal.order("facts", repo_id=f"{mine}/second")
    assert (facts["gate"], facts["listed"], len(facts["revisions"])) == ("manual", False, 1)
    again = post(maker, create, {"name": "second", "organization": mine})
    assert (again.status, again.json["url"]) == (409, f"{maker.portal.url}/{mine}/second")
    assert "You already created this model repo" in again.json["error"]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\0b", ".git/config", "a\\b", "", "a//b", "a" * 501, 7, None])  # fmt: skip
def test_path_that_leads_elsewhere_is_refused_everywhere(maker: Maker, path: Any) -> None:
    refused(commit(maker, small(path)), 400, "cannot be a file's name here")
    refused(commit(maker, large(path)), 400, "cannot be a file's name here")
    answer = post(
        maker, f"/api/models/{maker.repo_id}/preupload/main", {"files": [{"path": path, "size": 1}]}
    )
    refused(answer, 400, "cannot be a file's name here")


ODD = [
    b"",
    b"\n\n",
    b"no json\n",
    b"[]\n",
    b'{"key": "header"}\n',
    b'{"key": "header", "value": 7}\n',
    b'{"key": "header", "value": {}}\n',
    b'{"key": "header", "value": {"summary": ""}}\n',
    b'{"key": "header", "value": {"summary": "a\\u0000b"}}\n',
    b'{"key": "header", "value": {"summary": "\\ud800"}}\n',
    b'{"key": "file", "value": {"path": "a", "content": "eA=="}}\n',
    b"[" * 100_000 + b"\n",
    b'{"key": ' * 20_000 + b"\n",
    b"\xff\xfe\n",
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_commit_that_makes_no_sense_is_refused(maker: Maker, body: bytes) -> None:
    refused(post(maker, f"/api/models/{maker.repo_id}/commit/main", body), 400, "")


@pytest.mark.parametrize(
    "operation",
    [
        {"key": "odd", "value": {}},
        {"key": "file", "value": {"path": "a"}},
        small("a", "no base64!"),
        small("a", 7),
        {"key": "file", "value": {"path": "a", "content": "x", "encoding": "odd"}},
        large("a", "short"),
        large("a", "../" * 20),
        large("a", SHA256.upper()),
        large("a", SHA256, -1),
        large("a", SHA256, True),
        large("a", SHA256, "7"),
        {"key": "lfsFile", "value": {"path": "a", "algo": "md5", "oid": SHA256, "size": 1}},
        {"key": "deletedFile", "value": {"path": 7}},
        {"key": "copyFile", "value": {"path": "a", "srcPath": []}},
    ],
)
def test_operation_that_makes_no_sense_is_refused(maker: Maker, operation: dict[str, Any]) -> None:
    refused(commit(maker, operation), 400, "")


def test_file_that_is_too_large_for_a_commit_is_refused(maker: Maker) -> None:
    line = json.dumps(small("a.txt", "A" * 14_500_000)).encode()
    body = json.dumps(HEADER).encode() + b"\n" + line + b"\n"
    refused(
        post(maker, f"/api/models/{maker.repo_id}/commit/main", body), 413, "send larger ones as large files"
    )


def test_pull_requests_and_xet_are_refused_with_what_to_do(maker: Maker) -> None:
    refused(
        post(maker, f"/api/models/{maker.repo_id}/commit/main?create_pr=1", HEADER), 400, "no pull requests"
    )
    answer = maker.portal.ask("GET", f"/api/models/{maker.repo_id}/xet-write-token/main", token=maker.token)
    refused(answer, 400, "set HF_HUB_DISABLE_XET=1")
    assert "HF_HUB_DISABLE_XET=1" in answer.headers["x-hf-warning"]


def test_stale_parent_is_a_412(maker: Maker) -> None:
    facts = maker.portal.order("facts", repo_id=maker.repo_id)
    first = facts["revisions"][-1][0]
    assert commit(maker, small("a.txt")).status == 200
    header = {"key": "header", "value": {"summary": "Late", "parentCommit": first}}
    refused(commit(maker, small("b.txt"), header=header), 412, "A commit has happened since")
    refused(commit(maker, small("b.txt"), branch="nope"), 404, "Invalid rev id")


def test_client_that_dies_leaves_nothing_and_holds_nobody_up(maker: Maker) -> None:
    parts = urlsplit(maker.portal.url)
    path = stream_address(maker)
    before = maker.staged
    for _ in range(3):
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
            head = f"PUT {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(STREAM)}\r\n\r\n"
            connection.sendall(head.encode() + STREAM[:200_000])
            wait_until(lambda: maker.staged != before)
        wait_until(lambda: maker.staged == before)
    assert put(maker.portal, path, STREAM).status == 200


def test_more_uploads_than_fit_are_told_to_wait_and_pages_answer(maker: Maker) -> None:
    """Slow senders take every place for uploads; the rest of the portal keeps working."""
    parts = urlsplit(maker.portal.url)
    path = stream_address(maker)
    head = f"PUT {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(STREAM)}\r\n\r\n".encode()
    slow = [socket.create_connection((parts.hostname or "", parts.port or 0)) for _ in range(8)]
    try:
        for connection in slow:
            connection.sendall(head + STREAM[:70_000])
        wait_until(lambda: len(maker.staged) == 8)
        answer = put(maker.portal, path, STREAM)
        refused(answer, 503, "Too many uploads at once")
        assert answer.headers["retry-after"] == "2"
        assert maker.portal.ask("GET", f"/api/models/{maker.repo_id}", token=maker.token).status == 200
        for connection in slow:
            connection.sendall(STREAM[70_000:])
            assert connection.recv(12) == b"HTTP/1.1 200"
    finally:
        for connection in slow:
            connection.close()
    assert wait_until(lambda: put(maker.portal, path, STREAM).status == 200)


def test_two_commits_at_once_both_arrive(maker: Maker) -> None:
    """Without a given parent, the second commit goes on top of the first, as on the Hub."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(commit(maker, small(f"{n}.txt"))))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status for answer in answers] == [200] * 4
    revisions = maker.portal.order("facts", repo_id=maker.repo_id)["revisions"]
    assert [parent for _, parent, _ in revisions[1:]] == [commit for commit, _, _ in revisions[:-1]]
    names = {file.path for file in maker.api.list_repo_tree(maker.repo_id)}
    assert names == {".gitattributes", *(f"{n}.txt" for n in range(4))}


def test_held_upload_is_not_found_by_anybody_else(holder: Maker, make_maker: Callable[..., Maker]) -> None:
    put(holder.portal, address(holder), CONTENT)
    done = commit(holder, large("model.safetensors"), small("secret.txt"))
    held = done.json["commitOid"]
    assert f"{held[:8]} is held until an owner publishes it" in done.headers["x-hf-warning"]
    reviewer = make_maker()
    holder.portal.order(
        "role", repo_id=holder.repo_id, name=reviewer.repo_id.partition("/")[0], given="reviewer"
    )
    api, where = f"/api/models/{holder.repo_id}", f"/{holder.repo_id}/resolve"
    paths = [f"{api}/revision/{held}", f"{api}/tree/{held}", f"{api}/commits/{held}", f"{where}/{held}/secret.txt", f"{where}/{held}/model.safetensors"]  # fmt: skip
    for path in paths:
        seen = holder.portal.ask("GET", path, token=holder.token)
        assert seen.status in {200, 302, 307}, path
        hidden = holder.portal.ask("GET", path, token=reviewer.token)
        assert (hidden.status, hidden.headers["x-error-code"]) == (404, "RevisionNotFound"), path
    for path in (f"{api}/refs", f"{api}/commits/main", f"{api}/tree/main", api):
        assert held not in holder.portal.ask("GET", path, token=reviewer.token).text
        assert "secret.txt" not in holder.portal.ask("GET", path, token=reviewer.token).text
    holder.portal.order("publish", commit=held)
    assert holder.portal.ask("GET", paths[0], token=reviewer.token).json["sha"] == held


def test_sender_that_stands_still_is_cut(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is the live portal's, with shorter limits."""
    from django.core.handlers.wsgi import WSGIRequest

    from model_ops.hub import receiving

    monkeypatch.setattr(receiving, "SLOWEST", 0.2)
    monkeypatch.setattr(receiving, "LOOK_EVERY", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        request = WSGIRequest(
            {"REQUEST_METHOD": "PUT", "CONTENT_LENGTH": "100", "wsgi.input": stream, "gunicorn.socket": ours}
        )
        theirs.sendall(b"ten bytes.")
        with receiving.bodies.room(request) as body:
            assert b"".join(receiving.pieces_of(request, body)) == b"ten bytes."
