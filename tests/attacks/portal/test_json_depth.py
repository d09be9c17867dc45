"""Brackets nested hundreds of thousands deep, sent to every address that takes JSON."""

from __future__ import annotations

import pytest

from tests.attacks.portal.lines import look
from tests.model_ops.hub.conftest import Portal

DEEP = {
    "lists": b"[" * 200_000,
    "closed lists": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 40_000,
    "in a field": b'{"content": ' + b"[" * 150_000 + b"]" * 150_000 + b"}",
    "long number": b'{"content": ' + b"9" * 100_000 + b"}",
    "half pairs": b'{"content": "' + b"\\ud800" * 10_000 + b'", "paths": "\\ud800", "grant_type": "\\ud800"}',
}
ROUTES = {
    "validate": "/api/validate-yaml",
    "create": "/api/repos/create",
    "paths": "/api/models/{id}/paths-info/main",
    "branch": "/api/models/{id}/branch/new",
    "preupload": "/api/models/{id}/preupload/main",
    "commit": "/api/models/{id}/commit/main",
    "batch": "/{id}.git/info/lfs/objects/batch",
    "settings": "/api/models/{id}/settings",
    "handle": "/api/models/{id}/user-access-request/handle",
    "several": "/api/models/{id}/user-access-request/batch",
    "ask": "/{id}/ask-access",
    "report": "/api/tokens/report",
    "revoke": "/api/credentials/revoke",
    "token": "/oauth/token",
    "device": "/oauth/device",
}


@pytest.fixture(scope="module")
def model(bare_portal: Portal) -> str:
    bare_portal.order("model", repo_id="ns/deep")
    return "ns/deep"


@pytest.fixture(scope="module")
def owner(bare_portal: Portal, model: str) -> str:
    """A token of the model's owner."""
    found: str = bare_portal.order("person", name="deep-owner", repo_id=model, state="owner")["token"]
    return found


@pytest.mark.parametrize("who", ["anonymous", "owner"])
@pytest.mark.parametrize("name", ROUTES)
def test_deep_json_is_a_refusal_and_no_error(
    bare_portal: Portal, model: str, owner: str, name: str, who: str
) -> None:
    token = owner if who == "owner" else None
    path, method = ROUTES[name].format(id=model), "PUT" if name == "settings" else "POST"
    for what, body in DEEP.items():
        answer = bare_portal.ask(method, path, token=token, body=body, content_type="application/json")
        least = 200 if what == "half pairs" else 400  # where the field that contains them is ignored
        assert least <= answer.status < 500, (name, what, answer.status)
        assert answer.status < 300 or "x-error-message" in answer.headers, (name, what)
        assert "<html" not in answer.text.lower()
    assert look(bare_portal.url, "/") == 200
