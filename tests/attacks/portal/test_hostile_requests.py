"""Hostile requests to every route of a live portal: no answer is a 5xx or contains data of a hidden model.

The routes come from the URL configuration, so new ones are included automatically. A normal run draws some
hundreds of requests from the seeded tables of `hostile_site`. The full ten thousand, and every route for
every role and method, are slow: `./dev.py test -m slow tests/attacks/portal/test_hostile_requests.py`.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from itertools import islice
from typing import Any

import pytest
from django.urls import get_resolver, resolve

from tests.attacks.portal.hostile_site import METHODS, Asked, Browser, Drawer, Got, pretty, routes
from tests.attacks.portal.planting import HIDDEN, MARK
from tests.model_ops.hub.conftest import CHECKOUT, Portal, bare_portal, hub_environment

__all__ = ["bare_portal", "hub_environment"]

SEED = 20261130
AT_ONCE = 4  # threads that send requests
BATCH = 400  # requests until everyone is signed in again, because some of them sign people out
BLIND = ("anonymous", "stranger", "pending", "granted", "expired", "reviewer", "owner", "auditor")
SERVED = ("GET", "HEAD", "POST", "PUT", "DELETE")
SEEING = ("keeper", "root")
ALL_ROUTES = list(dict.fromkeys(routes(get_resolver())))
SEEDER = "import django; django.setup(); from tests.attacks.portal import planting; planting.main()"


@dataclass
class Site:
    """The live portal with the planted data, and the results of the requests so far."""

    portal: Portal
    seeder: subprocess.Popen[str]
    planted: dict[str, Any]
    statuses: Counter[int] = field(default_factory=Counter)

    def order(self, op: str) -> Any:
        assert self.seeder.stdin
        assert self.seeder.stdout
        self.seeder.stdin.write(json.dumps({"op": op}) + "\n")
        self.seeder.stdin.flush()
        line = self.seeder.stdout.readline()
        assert line, self.portal.log.with_name("planting.log").read_text()[-3000:]
        return json.loads(line)

    def ask_all(self, asked: Iterable[Asked]) -> list[str]:
        """Send the requests, several at once, and return the faults of the answers."""
        wrong: list[str] = []
        waiting = iter(asked)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while batch := list(islice(waiting, BATCH)):
                self.planted.update(self.order("sessions"))
                wrong += [fault for found in pool.map(self.faults, batch) for fault in found]
        return wrong

    def ask(self, asked: Asked) -> Got:
        return Browser(self.portal.url, self.planted).send(asked)

    def faults(self, asked: Asked) -> list[str]:
        try:
            got = self.ask(asked)
        except (HTTPException, OSError) as error:
            return [f"no whole answer ({error!r}): {asked}"]
        self.statuses[got.status] += 1
        says_unwell = (
            asked.path.startswith("/healthz") and got.status == 503
        )  # no worker runs beside this portal
        found = [f"{got.status}: {asked}"] if got.status >= 500 and not says_unwell else []
        if b"Traceback (most recent call last)" in got.content:
            found.append(f"traceback: {asked}")
        if asked.who in BLIND and (place := got.content.find(MARK.encode())) >= 0:
            found.append(f"leak {got.content[max(0, place - 60) : place + 60]!r}: {asked}")
        return found

    def log_faults(self) -> list[str]:
        """Return the lines of the server's log in which Django reports an error at an address."""
        lines = self.portal.log.read_text(errors="replace").splitlines()
        return [line for line in lines if "Internal Server Error" in line or "Error handling request" in line]


@pytest.fixture(scope="module")
def site(bare_portal: Portal) -> Generator[Site]:
    with bare_portal.log.with_name("planting.log").open("w") as errors:
        seeder = subprocess.Popen(
            [sys.executable, "-c", SEEDER], cwd=CHECKOUT, env=bare_portal.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        made = Site(bare_portal, seeder, {})
        try:
            made.planted = made.order("plant")
            yield made
        finally:
            assert seeder.stdin
            assert seeder.stdout
            seeder.stdin.close()
            seeder.wait(60)
            seeder.stdout.close()


def matrix(site: Site) -> Iterator[Asked]:
    """Yield every route for every role and method, with the hidden model's values in its parts.

    For methods that no route serves, three roles are enough.
    """
    for route in ALL_ROUTES:
        for who, method in itertools.product((*BLIND, *SEEING), METHODS):
            if method in SERVED or who in {"anonymous", "owner", "root"}:
                for token in ("", f"{who}-person") if who != "anonymous" and "api/" in route else ("",):
                    yield Asked(who, method, hidden_address(site, route), token=token, body=b"")


def hidden_address(site: Site, route: str) -> str:
    namespace, name = HIDDEN.split("/")
    label = ".".join(route.split("/")[1:3])
    numbers = site.planted["ids"].get(label, ["1"]) or ["1"]
    values = {"repo_id": HIDDEN, "namespace": namespace, "name": name, "rest": "main", "object_id": numbers[-1], "pk": numbers[-1]}  # fmt: skip
    return pretty(route, values)


def pages_of_rows(site: Site) -> Iterator[str]:
    """Yield the admin's list, search, change and history addresses of the planted rows."""
    for label, numbers in site.planted["ids"].items():
        base = f"/admin/{label.replace('.', '/')}/"
        yield base
        yield f"{base}?q={MARK[:3]}"
        for number in numbers[-4:]:
            yield f"{base}{number}/change/"
            yield f"{base}{number}/history/"


def told(site: Site, wrong: list[str]) -> str:
    counts = dict(sorted(Counter(str(status)[0] + "xx" for status in site.statuses.elements()).items()))
    raised = Counter(
        re.findall(
            r"^(?:\w+\.)*\w+(?:Error|Exception|Violation)\b.*",
            site.portal.log.read_text(errors="replace"),
            re.M,
        )
    )
    lines = [*(f"{count} x {line[:200]}" for line, count in raised.most_common(40)), *wrong[:60]]
    return f"{sum(site.statuses.values())} requests, {counts}\n" + "\n".join(lines)


def test_planted_data_is_seen_by_those_who_may(site: Site) -> None:
    """Each of these pages shows marked data to the hidden model's owner or to a superuser, so a leak would be found."""
    for path in pages_of_rows(site):
        if path.endswith("/"):
            assert site.ask(Asked("root", "GET", path)).status in {200, 302}, path
    seen = {
        path: site.ask(Asked(who, "GET", path))
        for path, who in {
            f"/{HIDDEN}": "keeper", f"/api/models/{HIDDEN}": "keeper", f"/{HIDDEN}/downloads": "keeper",
            f"/{HIDDEN}/user-access-report": "keeper", "/admin/access_requests/accessrequest/": "keeper",
            "/admin/access_requests/grant/": "keeper", "/admin/access_requests/outgoingmail/": "root",
            "/admin/access_requests/machine/": "root", "/admin/access_requests/followedrepo/": "keeper",
            "/admin/access_requests/remoterequest/": "keeper", "/admin/accounts/user/": "root",
            "/admin/model_ops/download/csv/": "keeper", "/admin/access_requests/accesstoken/": "keeper",
        }.items()
    }  # fmt: skip
    assert {
        path for path, got in seen.items() if got.status == 200 and MARK.encode() not in got.content
    } == set()


def test_every_route_has_an_address_that_leads_to_it() -> None:
    values = {"repo_id": "a/b", "pk": "1", "mail_id": "1", "uidb36": "1", "object_id": "1"}
    found = {resolve(pretty(route, values)).route.replace("^", "") for route in ALL_ROUTES}
    missed = {route for route in ALL_ROUTES if route.replace("^", "") not in found}
    assert len(found) > 200
    # Duplicate patterns are for ids of one part; ids of two parts match the routes above.
    assert missed == {r"^api/models/(?P<repo_id>[^/]+)$", r"^(?P<repo_id>[^/]+)/(?:resolve|raw)/[\s\S]*$"}


def test_hundreds_of_hostile_requests_get_no_5xx_and_nothing_hidden(site: Site) -> None:
    drawer = Drawer(SEED, site.planted, ALL_ROUTES[:], [*BLIND, *SEEING])
    wrong = site.ask_all(drawer.draw() for _ in range(500))
    assert (wrong, site.log_faults()) == ([], []), told(site, wrong)


def test_rows_of_the_hidden_model_have_no_page_for_others(site: Site) -> None:
    wrong = site.ask_all(
        Asked(who, "GET", path) for path in pages_of_rows(site) for who in ("reviewer", "owner", "auditor")
    )
    assert (wrong, site.log_faults()) == ([], []), told(site, wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_hostile_requests_get_no_5xx_and_nothing_hidden(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.statuses.clear()
    drawer = Drawer(SEED + 1, site.planted, ALL_ROUTES[:], [*BLIND, *SEEING])
    wrong = site.ask_all(drawer.draw() for _ in range(10_000))
    with capsys.disabled():
        sys.stdout.write(f"\n{told(site, wrong)}\n")
    assert (wrong, site.log_faults()) == ([], []), told(site, wrong)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_route_for_every_role_and_method_leaks_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.statuses.clear()
    wrong = site.ask_all(matrix(site))
    with capsys.disabled():
        sys.stdout.write(f"\n{told(site, wrong)}\n")
    assert (wrong, site.log_faults()) == ([], []), told(site, wrong)


def test_statuses_are_counted(site: Site) -> None:
    before = sum(site.statuses.values())
    assert site.faults(replace(Asked("anonymous", "GET", "/healthz"))) == []
    assert sum(site.statuses.values()) == before + 1
