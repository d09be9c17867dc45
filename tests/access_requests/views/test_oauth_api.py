from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.cache import cache
from django.test import Client

from access_requests.models import DeviceCode
from access_requests.services import tokens
from access_requests.services.oauth import codes
from tests.access_requests.services.oauth.signing import CLIENT

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_counts() -> None:
    cache.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def test_the_wire_speaks_as_the_standards_say(client: Client, ada: Any) -> None:
    begun = client.post("/oauth/device", {"client_id": CLIENT}, headers={"User-Agent": "curl/8\r"})
    told = begun.json()
    assert begun["Cache-Control"] == "no-store"
    assert sorted(told) == [
        "device_code", "expires_in", "interval", "user_code", "verification_uri", "verification_uri_complete",
    ]  # fmt: skip
    assert told["verification_uri_complete"] == f"{told['verification_uri']}?user_code={told['user_code']}"
    poll = {"grant_type": DEVICE_GRANT, "device_code": told["device_code"], "client_id": CLIENT}
    waits = client.post("/oauth/token", poll)
    assert (waits.status_code, waits.json()["error"]) == (400, "authorization_pending")
    code = codes.find_waiting(typed=told["user_code"], user=ada, address=None)
    codes.approve(code=code, user=ada, name="laptop")
    given = client.post("/oauth/token", poll)
    assert given["Cache-Control"] == "no-store"
    assert (given.json()["token_type"], given.json()["expires_in"]) == ("bearer", 30 * 86400)
    again = {
        "grant_type": "refresh_token",
        "refresh_token": given.json()["refresh_token"],
        "client_id": CLIENT,
    }
    renewed = client.post("/oauth/token", again).json()
    assert renewed["refresh_token"] != given.json()["refresh_token"]
    for token in (renewed["access_token"], "nothing of ours"):
        gone = client.post("/oauth/revoke", {"token": token})
        assert (gone.status_code, gone.json()) == (200, {})
    with pytest.raises(tokens.TokenRefused):
        tokens.authenticate(renewed["access_token"])


BAD_REQUESTS = [
    ("/oauth/device", {}, 400, "invalid_request"),
    ("/oauth/device", {"client_id": "a\0b"}, 400, "invalid_request"),
    ("/oauth/device", {"client_id": ["a", "b"]}, 400, "invalid_request"),
    ("/oauth/token", {}, 400, "invalid_request"),
    ("/oauth/token", {"grant_type": "password"}, 400, "unsupported_grant_type"),
    ("/oauth/token", {"grant_type": DEVICE_GRANT}, 400, "invalid_request"),
    (
        "/oauth/token",
        {"grant_type": DEVICE_GRANT, "client_id": "x", "device_code": "é"},
        400,
        "invalid_grant",
    ),
    ("/oauth/token", {"grant_type": "refresh_token", "refresh_token": "x" * 9000}, 400, "invalid_grant"),
    ("/oauth/token", {"grant_type": "refresh_token"}, 400, "invalid_request"),
    ("/oauth/revoke", {}, 400, "invalid_request"),
    ("/oauth/token", {f"f{n}": "1" for n in range(2000)}, 400, "invalid_request"),
    ("/oauth/token", {"grant_type": "x" * 70_000}, 413, "invalid_request"),
]


@pytest.mark.parametrize(("path", "data", "status", "error"), BAD_REQUESTS)
def test_bad_requests_are_refused_with_a_sentence(
    client: Client, path: str, data: dict[str, Any], status: int, error: str
) -> None:
    body = urlencode(data, doseq=True)
    answer = client.post(path, body, content_type="application/x-www-form-urlencoded")
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer["X-Error-Message"] == answer.json()["error_description"]
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"[" * 30_000, b'{"grant_type": 3}', b"\xff\xfe", b'{"grant_type": "\\u0000"}']
)  # fmt: skip
def test_bad_json_is_refused_with_a_sentence(client: Client, body: bytes) -> None:
    answer = client.post("/oauth/token", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_only_post_is_taken_and_no_cookie_is_needed(ada: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    answer = strict.get("/oauth/token")
    assert (answer.status_code, answer["Allow"], answer.json()["error"]) == (405, "POST", "invalid_request")
    assert strict.post("/oauth/device", {"client_id": "x" * 500}).status_code == 200
    assert DeviceCode.objects.get().client_id == "x" * 100


def test_metadata_names_the_addresses(client: Client, settings: Any) -> None:
    told = client.get("/.well-known/oauth-authorization-server").json()
    assert told["issuer"] == settings.GATEHOUSE_URL
    assert told["token_endpoint"] == f"{settings.GATEHOUSE_URL}/oauth/token"


@pytest.mark.parametrize("wrong", ["a/\\ud800", "\\udfff", "a\\u0000b"])
def test_text_that_no_database_holds_is_refused(client: Client, wrong: str) -> None:
    grant = "urn:ietf:params:oauth:grant-type:token-exchange"
    for name in ("resource", "subject_token", "client_id"):
        body = f'{{"grant_type": "{grant}", "{name}": "{wrong}"}}'
        for path in ("/oauth/token", "/oauth/device", "/oauth/revoke"):
            answer = client.post(path, body, content_type="application/json")
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
            assert "half a surrogate pair" in answer.headers["X-Error-Message"]
