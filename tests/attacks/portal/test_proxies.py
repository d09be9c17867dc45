"""Headers about a request's origin or target page, from senders who are not trusted to set them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.attacks.portal.lines import answer, connect, head
from tests.model_ops.hub.conftest import CHECKOUT, Answer, Portal
from tests.model_ops.hub.ways import beside

STAFF = """
import django; django.setup()
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
user, made = get_user_model().objects.get_or_create(
    username="boss", defaults={"email": "boss@example.org", "is_superuser": True}
)
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(session.session_key)
"""
SPELLINGS = [
    "SCRIPT_NAME: /x", "Script_Name: /x", "SCRIPT-NAME: /x", "X-Script-Name: /x", "X-Forwarded-Prefix: /x",
    "X-Original-URL: /admin/", "X-Rewrite-URL: /outbox/", "PATH_INFO: /admin/", "Path-Info: /admin/", "SCRIPT_URL: /x/admin/",
    "REDIRECT_URL: /x/admin/", "HTTP_SCRIPT_NAME: /x",
]  # fmt: skip
STAFF_PAGES = ["/admin/", "/outbox/", "/admin/access_requests/gatedmodel/", "/admin/no/such/page"]


@pytest.fixture(scope="module")
def cookie(bare_portal: Portal) -> str:
    """The Cookie header of a superuser's session, who has a password and no second factor."""
    made = subprocess.run(
        [sys.executable, "-c", STAFF],
        cwd=CHECKOUT,
        env=bare_portal.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return f"Cookie: gatehouse_session={made.stdout.split()[-1]}"


def ask(portal: Portal, path: str, *headers: str) -> Answer:
    """Send a GET on its own connection, with the headers unchanged."""
    with ExitStack() as stack:
        sent = head("GET", path, *headers, "Connection: close")
        return Answer(*answer(connect(stack, portal.url, sent)))


@pytest.mark.parametrize("spelling", ["", *SPELLINGS])
@pytest.mark.parametrize("page", STAFF_PAGES)
def test_second_factor_is_asked_however_the_path_is_spelled(
    attacked: Portal, cookie: str, spelling: str, page: str
) -> None:
    headers = [cookie, spelling] if spelling else [cookie]
    plain = ask(attacked, page, *headers)
    assert (plain.status, plain.headers["location"]) == (302, "/accounts/2fa/")
    for path in (f"/x{page}", f"//x{page}", f"/x/..{page}", f"/{page}", f"/.{page}", f"/me{page}"):
        found = ask(attacked, path, *headers)
        assert found.status != 200 or b"Second factor" in found.body, path
        assert b"/accounts/password/reset/key" not in found.body


def test_path_is_the_one_that_was_sent_whoever_names_another(attacked: Portal) -> None:
    for spelling in SPELLINGS:
        assert ask(attacked, "/x/robots.txt", spelling).status == 404
        assert ask(attacked, "/robots.txt", spelling).status == 200


@pytest.fixture(scope="module")
def paged(bare_portal: Portal) -> str:
    """The address of a list's page; the answer contains the address of the next page."""
    for number in range(3):
        bare_portal.order("model", repo_id=f"maker/listed{number}")
    return "/api/models?limit=1"


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Proto: https",
        "X-Forwarded-Ssl: on",
        "X-Forwarded-Protocol: ssl",
        "Forwarded: proto=https",
    ],
)
def test_scheme_is_believed_of_named_proxies_alone(bare_portal: Portal, paged: str, header: str) -> None:
    with beside(bare_portal, GATEHOUSE_PROXIES="192.0.2.1/32") as portal:
        assert ask(portal, paged, header).headers["link"].startswith("<http://")
    named = ask(bare_portal, paged, header).headers["link"]
    assert named.startswith("<https://") is (header == "X-Forwarded-Proto: https")


def test_proxy_protocol_is_not_spoken(bare_portal: Portal) -> None:
    with ExitStack() as stack:
        sent = b"PROXY TCP4 198.51.100.1 127.0.0.1 1 2\r\n" + head("GET", "/")
        assert answer(connect(stack, bare_portal.url, sent))[0] == 400


def test_gunicorn_trusts_nobody_whatever_its_settings_say(bare_portal: Portal, cookie: str) -> None:
    options = "--forwarded-allow-ips=* --forwarder-headers=SCRIPT_NAME,PATH_INFO --header-map=dangerous --proxy-protocol"
    with beside(bare_portal, GUNICORN_CMD_ARGS=options, SCRIPT_NAME="/x", FORWARDED_ALLOW_IPS="*") as portal:
        assert ask(portal, "/x/admin/", cookie, "SCRIPT_NAME: /x").status == 404
        assert ask(portal, "/robots.txt", "SCRIPT_NAME: /x").status == 200
        assert ask(portal, "/admin/", cookie).headers["location"] == "/accounts/2fa/"
