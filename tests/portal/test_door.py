from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, resolve

from portal import door, proxies
from portal.door import Door

NGINX = Path(__file__).parents[2] / "docker" / "nginx" / "nginx.conf.template"
LOCATION = re.compile(r"location ~ (\S+) \{([^}]*)\}")
SAMPLES = [
    "/", "/healthz", "/api/uploads/a:b", "/api/uploads/a:b/verify", "/api/uploads/", "/api/models/ai/tulu/commit/main",
    "/api/models/ai/tulu/commit/refs%2Fheads%2Fa", "/api/models/ai/tulu/commits/main", "/api/models/ai/tulu/preupload/main",
    "/api/models/ai/tulu", "/ai/tulu.git/info/lfs/objects/batch", "/x/y.git/request", "/x/y.git/access/licence", "/oauth/token",
    "/accounts/login/", "/admin/", "/admin/login/", "/admin/access_requests/gatedmodel/", "/admin/access_requests/gatedmodel/add/",
    "/admin/access_requests/gatedmodel/1/change/", "/admin/access_requests/gatedmodel/1/licences/",
    "/admin/access_requests/gatedmodel/1/form/", "/admin/accounts/user/add/", "/api/repos/create", "/api/validate-yaml",
    "/ai/commit/commit/main", "/api/models/commit/x/request", "/uploads/api", "/x/api/uploads/y", "/ai/tulu/request",
]  # fmt: skip


def unbuffered() -> list[str]:
    """Return the expressions of nginx's locations that pass a body on while it arrives."""
    text = NGINX.read_text()
    found = [
        expression for expression, inside in LOCATION.findall(text) if "proxy_request_buffering off" in inside
    ]
    assert len(found) == text.count("proxy_request_buffering off")
    return found


def marked(patterns: Iterable[Any], prefix: str = "") -> Iterator[str]:
    """Return the routes whose views are marked as reading large bodies."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from marked(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and getattr(pattern.callback, "streams_body", False):
            yield route


def test_marked_views_are_those_of_uploads_and_commits() -> None:
    assert sorted(marked(get_resolver().url_patterns)) == [
        r"^api/models/(?P<repo_id>[^/]+/[^/]+)/commit/[\s\S]*$",
        "api/uploads/<str:signed>",
    ]


@pytest.mark.parametrize("path", SAMPLES)
def test_nginx_the_web_server_and_the_views_agree_on_large_bodies(path: str) -> None:
    try:
        view = resolve(path).func
    except Resolver404:  # no view reads it
        view = None
    takes = getattr(view, "streams_body", False) or re.match(door.STAFF_FORMS, path) is not None
    assert Door(lambda environ, start: []).streams("POST", path) is takes
    assert any(re.search(expression, path) for expression in unbuffered()) is takes


def test_staff_forms_are_the_admins_pages_that_take_files() -> None:
    names = {resolve(path).view_name for path in SAMPLES if re.match(door.STAFF_FORMS, path)}
    assert names == {
        "admin:access_requests_gatedmodel_add",
        "admin:access_requests_gatedmodel_change",
        "admin:access_requests_gatedmodel_licences",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_have_no_large_bodies(method: str) -> None:
    assert not Door(lambda environ, start: []).streams(method, "/api/uploads/a:b")


def passed(peer: str, **said: str) -> dict[str, str]:
    """Return the part of this WSGI environment that reaches Django."""
    environ = {"REMOTE_ADDR": peer, "PATH_INFO": "/admin/", "wsgi.url_scheme": "http", **said}
    proxies.strip_forwarded(environ)
    return environ


SAID = {
    "HTTP_X_FORWARDED_FOR": "198.51.100.1", "HTTP_X_FORWARDED_PROTO": "http,https", "HTTP_X_FORWARDED_HOST": "evil.example",
    "HTTP_X_FORWARDED_PREFIX": "/x", "HTTP_FORWARDED": "for=198.51.100.1", "HTTP_X_REAL_IP": "198.51.100.1",
    "HTTP_X_GATEHOUSE_FRONT": "nginx", "HTTP_REMOTE_USER": "boss", "HTTP_SCRIPT_NAME": "/x", "HTTP_PATH_INFO": "/outbox/",
    "REMOTE_USER": "boss", "SCRIPT_URL": "/x/admin/", "REDIRECT_URL": "/x/admin/", "HTTP_X_ORIGINAL_URL": "/outbox/",
}  # fmt: skip


def test_nothing_is_believed_of_a_stranger() -> None:
    plain = {"REMOTE_ADDR": "192.0.2.7", "PATH_INFO": "/admin/", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"}
    assert passed("192.0.2.7", **SAID) == plain


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
def test_of_a_named_proxy_and_a_unix_socket_three_headers_are_believed(peer: str) -> None:
    assert passed(peer, **SAID) == {
        "REMOTE_ADDR": peer,
        "PATH_INFO": "/admin/",
        "SCRIPT_NAME": "",
        "wsgi.url_scheme": "https",
        "HTTP_X_FORWARDED_FOR": "198.51.100.1",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_GATEHOUSE_FRONT": "nginx",
    }


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.7", ""])
def test_script_name_is_part_of_the_path(peer: str) -> None:
    found = passed(peer, SCRIPT_NAME="/x")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/x/admin/")


def test_sender_is_what_the_middleware_says() -> None:
    from portal.middleware import ClientAddressMiddleware

    asked = RequestFactory().get(
        "/", REMOTE_ADDR="127.0.0.1", headers={"x-forwarded-for": "1.2.3.4, 198.51.100.1"}
    )
    ClientAddressMiddleware(lambda request: HttpResponse())(asked)
    assert Door(lambda environ, start: []).sender("127.0.0.1", "1.2.3.4, 198.51.100.1") == "198.51.100.1"
    assert asked.client_address == "198.51.100.1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("2001:db8::1", "", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "", "2001:db8::/64"),
        ("2001:db8:0:1::1", "", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.7", "", "192.0.2.7"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::/64"),
        ("127.0.0.1", "::ffff:192.0.2.7", "192.0.2.7"),
        ("", "", ""),
    ],
)
def test_sender_of_ipv6_is_its_whole_network(peer: str, forwarded: str, sender: str) -> None:
    assert Door(lambda environ, start: []).sender(peer, forwarded) == sender
