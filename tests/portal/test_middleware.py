from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory

from portal.middleware import ClientAddressMiddleware, NoBodyForHeadMiddleware, PatienceMiddleware


def client_address(request: HttpRequest) -> str | None:
    """Return the address that a view after the middleware sees."""
    ClientAddressMiddleware(lambda request: HttpResponse())(request)
    return request.client_address  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("10.0.0.5", "198.51.100.1", "10.0.0.5"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("", "198.51.100.1", "198.51.100.1"),
        ("not an address", "198.51.100.1", None),
        ("::ffff:192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "", None),
    ],
)
def test_only_a_proxy_of_this_machine_is_believed_by_default(
    peer: str, forwarded: str, address: str | None
) -> None:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)) == address


def test_proxy_that_is_named_is_believed(settings: Any) -> None:
    settings.GATEHOUSE_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    forwarded = {"x-forwarded-for": "198.51.100.1"}
    asked = RequestFactory().get("/", REMOTE_ADDR="10.0.0.5", headers=forwarded)
    assert client_address(asked) == "198.51.100.1"
    asked = RequestFactory().get("/", REMOTE_ADDR="127.0.0.1", headers=forwarded)
    assert client_address(asked) == "127.0.0.1"


@pytest.mark.parametrize(("method", "body"), [("GET", b"refused"), ("HEAD", b"")])
def test_head_gets_the_length_of_a_body_and_no_body(method: str, body: bytes) -> None:
    answered = NoBodyForHeadMiddleware(lambda request: HttpResponse(b"refused", status=401))
    response = answered(RequestFactory().generic(method, "/"))
    assert (response.status_code, response.content) == (401, body)
    assert response.headers.get("Content-Length", "7") == "7"


FORM = "/admin/access_requests/gatedmodel/add/"


def sent(path: str, size: int, client: Client) -> tuple[int, str]:
    """Post a form with a licence file of this many bytes; return status and error code."""
    answer = client.post(path, {"licence_file": SimpleUploadedFile("LICENSE.txt", b"a" * size)})
    return answer.status_code, answer.headers.get("X-Error-Code", "")


def test_large_forms_are_for_staff_where_files_are_taken(
    make_person: Callable[..., Any], settings: Any
) -> None:
    settings.GATEHOUSE_DEMO = True  # so staff need no second factor
    boss = make_person("boss", is_superuser=True)
    staff, person, anyone = Client(), Client(), Client(enforce_csrf_checks=True)
    staff.force_login(boss, backend="django.contrib.auth.backends.ModelBackend")
    person.force_login(make_person("ada"), backend="django.contrib.auth.backends.ModelBackend")
    found = [sent(FORM, 2**21, client) for client in (staff, person, anyone)]
    assert found == [(200, ""), (413, "TooLarge"), (413, "TooLarge")]
    assert sent(FORM, 13 * 2**20, staff) == (413, "TooLarge")
    assert sent("/admin/accounts/user/add/", 2**21, staff) == (413, "TooLarge")
    assert sent("/accounts/login/", 100, anyone) == (415, "NoFiles")
    assert sent(FORM, 100, person) == (415, "NoFiles")


def rows(before: int) -> Iterator[bytes]:
    """Yield this many lines, then run a statement that reaches its time limit."""
    for _ in range(before):
        yield b"row\n"
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 10")
        cursor.execute("SELECT pg_sleep(600)")


@pytest.mark.django_db
def test_stream_that_cannot_begin_is_an_error_that_becomes_an_answer() -> None:
    asked = PatienceMiddleware(lambda request: StreamingHttpResponse(rows(0)))
    with pytest.raises(OperationalError):
        asked(RequestFactory().get("/"))


@pytest.mark.django_db
def test_stream_that_breaks_off_is_cut_and_not_ended(caplog: pytest.LogCaptureFixture) -> None:
    response = PatienceMiddleware(lambda request: StreamingHttpResponse(rows(2)))(RequestFactory().get("/"))
    pieces = iter(response.streaming_content)  # type: ignore[attr-defined]
    assert [next(pieces), next(pieces)] == [b"row\n", b"row\n"]
    with pytest.raises(ConnectionResetError):
        next(pieces)
    assert "A stream was cut short, TooSlow" in caplog.text
