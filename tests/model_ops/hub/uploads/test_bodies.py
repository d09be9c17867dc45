"""All routes that take JSON refuse unreadable bodies in the same way, over real HTTP."""

from __future__ import annotations

import hashlib

import pytest

from tests.model_ops.hub.uploads.conftest import Maker
from tests.model_ops.hub.uploads.test_attacks import CONTENT, address

MOST = 2**20
MOST_PARTS = 5 * 2**20  # for the list of an upload's parts, which may be long
ROUTES = {
    "create": "/api/repos/create",
    "validate": "/api/validate-yaml",
    "branch": "/api/models/{id}/branch/new",
    "preupload": "/api/models/{id}/preupload/main",
    "batch": "/{id}.git/info/lfs/objects/batch",
    "verify": "{address}/verify",
    "join": "{address}",
    "settings": "/api/models/{id}/settings",
    "handle": "/api/models/{id}/user-access-request/handle",
    "grant": "/api/models/{id}/user-access-request/grant",
    "several": "/api/models/{id}/user-access-request/batch",
    "ask": "/{id}/ask-access",
    "paths": "/api/models/{id}/paths-info/main",
}


@pytest.mark.parametrize("name", ROUTES)
def test_unreadable_and_large_bodies_are_refused_alike(maker: Maker, name: str) -> None:
    upload = (
        address(maker, CONTENT * 3) if name in {"verify", "join"} else ""
    )  # large enough for a multipart upload
    path = ROUTES[name].format(id=maker.repo_id, address=upload)
    most = MOST_PARTS if name == "join" else MOST
    method = "PUT" if name == "settings" else "POST"
    found = []
    for body in (b"[", b'{"a": "\xff"}', b"{}".ljust(most + 1)):
        answer = maker.portal.ask(method, path, token=maker.token, body=body, content_type="application/json")
        assert "<html" not in answer.text.lower()
        found.append((answer.status, answer.headers["x-error-code"]))
        assert answer.headers["x-error-message"]
    assert found == [(400, "BadRequest"), (400, "BadRequest"), (413, "TooLarge")]
    assert f"{most:,}" in answer.headers["x-error-message"]


def test_text_that_no_database_takes_is_refused_everywhere(maker: Maker) -> None:
    oid = hashlib.sha256(CONTENT).hexdigest()
    for path, body in {
        "/api/repos/create": b'{"name": "a%s"}',
        f"/api/models/{maker.repo_id}/branch/new": b'{"startingPoint": "a%s"}',
        f"/api/models/{maker.repo_id}/user-access-request/handle": b'{"user": "a%s", "status": "accepted"}',
        f"/{maker.repo_id}.git/info/lfs/objects/batch": (
            b'{"operation": "upload", "objects": [{"size": 1, "oid": "' + oid.encode() + b'%s"}]}'
        ),
        f"/api/models/{maker.repo_id}/preupload/main": b'{"files": [{"size": 1, "path": "a%s"}]}',
    }.items():
        for odd in (rb"\u0000", rb"\ud800"):
            answer = maker.portal.ask("POST", path, token=maker.token, body=body.replace(b"%s", odd))
            assert (answer.status, "x-error-message" in answer.headers) == (400, True), (path, answer.text)
