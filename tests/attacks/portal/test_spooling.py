"""Endless request bodies: how much disk and memory they use."""

from __future__ import annotations

import http.client
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from portal import webworker
from portal.refusing import LARGEST_BODY
from tests.attacks.portal.lines import all_well, answer, connect, dripping, ended, head, place, statuses
from tests.model_ops.hub.conftest import Portal
from tests.model_ops.hub.ways import behind_nginx, beside
from tests.nginx import require_nginx
from tests.waiting import wait_until

HUGE = 600 * 2**20
COOKIE = "Cookie: gatehouse_csrf=" + "a" * 32
FORM = "Content-Type: multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
PIECE = bytes(2**18)
PATHS = [
    "/accounts/login/",
    "/nobody/nothing/request",
    "/nobody/nothing.git/request",
    "/oauth/activate",
    "/admin/login/",
]
FORMS = ["/admin/access_requests/gatedmodel/add/", "/admin/access_requests/gatedmodel/1/licences/"]


class Watched:
    """A portal with its own folder for temporary files."""

    def __init__(self, portal: Portal, temporary: Path) -> None:
        self.portal, self.temporary = portal, temporary

    def on_disk(self) -> int:
        """Return the bytes of its temporary files, including unlinked ones."""
        named = sum(path.stat().st_size for path in self.temporary.rglob("*") if path.is_file())
        return named + sum(size for path, size in self._open_files() if path.endswith(" (deleted)"))

    def resident(self) -> int:
        """Return the bytes of memory of all processes of the web server."""
        return sum(_resident(folder) for folder in self._processes())

    def _processes(self) -> list[Path]:
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(folder)
            except OSError:
                continue
        return found

    def _open_files(self) -> list[tuple[str, int]]:
        found = []
        for folder in self._processes():
            for number in (folder / "fd").glob("*"):
                try:
                    target = str(number.readlink())
                    if target.startswith(str(self.temporary)):
                        found.append((target, number.stat().st_size))
                except OSError:
                    continue
        return found


def _resident(folder: Path) -> int:
    lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return 1024 * int(lines["VmRSS"].split()[0])


@pytest.fixture(scope="module")
def watched(bare_portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Watched]:
    temporary = tmp_path_factory.mktemp("temporary")
    with beside(bare_portal, TMPDIR=str(temporary)) as portal:
        assert portal.get("/robots.txt").status == 200
        yield Watched(portal, temporary)


@pytest.mark.parametrize("path", [*PATHS, *FORMS])
def test_file_of_600_mib_with_a_made_up_csrf_cookie_is_refused_unread(watched: Watched, path: str) -> None:
    token = PART.replace(b"f.bin", b"").replace(b'name="f"', b'name="csrfmiddlewaretoken"')
    with ExitStack() as stack:
        client = connect(
            stack, watched.portal.url, head("POST", path, COOKIE, FORM, f"Content-Length: {HUGE}")
        )
        most = 0
        for piece in (token, PART, *[PIECE] * 256):
            if ended(client):
                break
            client.sendall(piece)
            most = max(most, watched.on_disk())
        status, headers, _ = answer(client)
        assert (status, headers["x-error-code"]) == (413, "TooLarge")
        assert headers["x-error-message"].endswith("`hf upload`.")
        assert max(most, watched.on_disk()) <= LARGEST_BODY


def test_refusal_of_a_large_body_is_json_for_api_clients(watched: Watched) -> None:
    with ExitStack() as stack:
        client = connect(
            stack, watched.portal.url, head("POST", "/api/validate-yaml", f"Content-Length: {HUGE}")
        )
        status, headers, body = answer(client)
        assert (status, headers["content-type"]) == (413, "application/json")
        assert headers["x-error-message"].encode() in body


def test_multipart_without_a_length_is_refused_unread(watched: Watched) -> None:
    with ExitStack() as stack:
        client = connect(
            stack, watched.portal.url, head("POST", PATHS[0], COOKIE, FORM, "Transfer-Encoding: chunked")
        )
        assert answer(client)[0] == 411
        assert watched.on_disk() == 0


@pytest.mark.parametrize("path", [*PATHS[:2], *FORMS])
def test_small_file_where_none_is_taken_is_refused(watched: Watched, path: str) -> None:
    body = PART + b"content" + b"\r\n--b--\r\n"
    connection = http.client.HTTPConnection(*place(watched.portal.url), timeout=60)
    connection.request("POST", path, body, dict([COOKIE.split(": "), FORM.split(": ")]))
    response = connection.getresponse()
    assert (response.status, response.headers["X-Error-Code"]) == (415, "NoFiles")
    connection.close()


def test_bodies_just_below_the_bound_stay_within_a_bound_together(watched: Watched) -> None:
    """There are 250 of them, each one byte short of its end, from as many addresses."""
    assert statuses(watched.portal.url) == all_well()  # every thread has allocated what it needs
    before = watched.resident()
    with ExitStack() as stack:
        held = []
        for number in range(250):
            sent = head(
                "POST",
                "/accounts/login/",
                FORM,
                COOKIE,
                f"X-Forwarded-For: 198.51.100.{number}",
                f"Content-Length: {LARGEST_BODY}",
            )
            client = connect(stack, watched.portal.url)
            client.sendall(sent + bytes(LARGEST_BODY - 1))
            held.append(client)
        fit = webworker.HELD // LARGEST_BODY + 1
        wait_until(lambda: sum(map(ended, held)) >= len(held) - fit)
        assert watched.resident() - before < 3 * webworker.HELD
        assert statuses(watched.portal.url) == all_well()
    assert watched.on_disk() == 0


def test_file_of_600_mib_through_nginx_is_refused_unread(bare_portal: Portal, tmp_path: Path) -> None:
    require_nginx()
    with behind_nginx(bare_portal, tmp_path, TMPDIR=str(tmp_path)) as (through, _), ExitStack() as stack:
        watched = Watched(through, tmp_path)
        for path in [*PATHS, *FORMS]:
            sent = head("POST", path, COOKIE, FORM, f"Content-Length: {HUGE}") + PART
            client = connect(stack, through.url, sent)
            with dripping([client], iter(lambda: PIECE, b"")):
                assert answer(client)[0] == 413
        kept = [path for path in (tmp_path / "run" / "body").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in kept) == 0
        assert sum(size for path, size in watched._open_files() if "(deleted)" in path) == 0
        assert statuses(through.url, rounds=1) == all_well(rounds=1)
