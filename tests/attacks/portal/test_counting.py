"""Calls that once were not counted: POSTs without a token, from one or many addresses, with fake tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import pytest

from access_requests.services.tokens import make_secret
from tests.model_ops.hub.conftest import Answer, Portal
from tests.model_ops.hub.ways import beside

MODEL = "ns/counted"
PATHS = f"/api/models/{MODEL}/paths-info/main"
ADDRESS_RATE, ANONYMOUS_RATE, TOKEN_RATE = 20, 30, 30
SHARE = 1  # what each address may still send when the others have used up a limit this small


@pytest.fixture(scope="module")
def counting(bare_portal: Portal) -> Generator[Portal]:
    """A web process with low limits and its own cache database, and a model."""
    bare_portal.order("model", repo_id=MODEL)
    settings = {
        "GATEHOUSE_ADDRESS_RATE": str(ADDRESS_RATE),
        "GATEHOUSE_ANONYMOUS_RATE": str(ANONYMOUS_RATE),
        "GATEHOUSE_TOKEN_RATE": str(TOKEN_RATE),
        "REDIS_URL": bare_portal.environment["REDIS_URL"].replace("db=7", "db=11"),
    }
    with beside(bare_portal, **settings) as web:
        yield web


def in_one_minute(ask: Callable[[int], list[Answer]]) -> list[Answer]:
    """Return the answers of an attempt within one minute of the clock, whose calls were counted together."""
    for number in range(5):
        before = int(time.time()) // 60
        answers = ask(number)
        if int(time.time()) // 60 == before:
            return answers
        _next_minute()
    pytest.fail("each try took longer than a minute")


def _next_minute() -> None:
    """Wait until earlier calls do not count any more."""
    time.sleep(60 - time.time() % 60 + 0.1)


def paths(portal: Portal, address: str, token: str | None = None) -> Answer:
    return portal.ask("POST", PATHS, token=token, body=b"paths=a", x_forwarded_for=address)


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def test_body_of_many_paths_is_refused_before_it_is_read(counting: Portal) -> None:
    answer = counting.ask("POST", PATHS, body=b"paths=a&" * 132_000, x_forwarded_for="192.0.2.1")
    assert (answer.status, answer.headers["x-error-code"]) == (413, "TooLarge")
    answer = counting.ask("POST", PATHS, body=b"paths=a&" * 1_001, x_forwarded_for="192.0.2.1")
    assert (answer.status, answer.headers["x-error-code"]) == (400, "BadRequest")


def test_unknown_model_is_a_404_whatever_the_body(counting: Portal) -> None:
    answer = counting.ask(
        "POST", "/api/models/ns/none/paths-info/main", body=b"[" * 200_000, content_type="application/json",
        x_forwarded_for="192.0.2.2",
    )  # fmt: skip
    assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")


def test_posts_of_an_address_are_counted_and_its_pages_are_not(counting: Portal) -> None:
    _next_minute()
    answers = in_one_minute(
        lambda number: [paths(counting, f"192.0.2.{10 + number}") for _ in range(ADDRESS_RATE + 1)]
    )
    assert statuses(answers) == [200] * ADDRESS_RATE + [429]
    late = answers[-1].headers
    assert (late["x-error-code"], late["ratelimit"].partition(";")[0]) == ("TooManyRequests", '"address"')
    assert 1 <= int(late["retry-after"]) <= 60
    for address in (f"192.0.2.{10 + number}" for number in range(5)):
        assert counting.get("/", x_forwarded_for=address).status == 200
        assert counting.get(f"/{MODEL}", x_forwarded_for=address).status == 200
        assert counting.get(f"/{MODEL}/blob/main/README.md", x_forwarded_for=address).status == 302


def test_addresses_of_one_network_are_one(counting: Portal) -> None:
    _next_minute()
    answers = in_one_minute(
        lambda number: [paths(counting, f"2001:db8:0:{number}::{n:x}") for n in range(ADDRESS_RATE + 1)]
    )
    assert statuses(answers) == [200] * ADDRESS_RATE + [429]


def from_two(number: int, ask: Callable[[str, int], Answer]) -> list[Answer]:
    """Call from two addresses in turn, each below its limit, until both used up their share, and once more each."""
    return [ask(f"10.{number}.0.{n % 2}", n) for n in range(ANONYMOUS_RATE + 2 * SHARE + 2)]


def test_callers_without_a_token_are_counted_together_and_people_are_not(counting: Portal) -> None:
    """Two busy addresses use up the common limit; a third address and signed-in people are still served."""
    token = counting.order("person", name="counted-one", repo_id=MODEL, state="granted")["token"]
    _next_minute()

    def ask(number: int) -> list[Answer]:
        busy = from_two(number, lambda address, _: paths(counting, address))
        third = [paths(counting, f"10.{number}.1.1") for _ in range(SHARE + 1)]
        return [*busy, *third, paths(counting, f"10.{number}.0.1", token), counting.get("/")]

    answers = in_one_minute(ask)
    busy, third = answers[: ANONYMOUS_RATE + 2 * SHARE + 2], answers[-SHARE - 3 : -2]
    assert statuses(busy) == [200] * (ANONYMOUS_RATE + 2 * SHARE) + [429] * 2
    assert busy[-1].headers["ratelimit"].partition(";")[0] == '"anonymous"'
    assert statuses(third) == [200] * SHARE + [429]
    assert statuses(answers[-2:]) == [200, 200]


@pytest.mark.parametrize(
    ("path", "made_up"),
    [(PATHS, "Bearer gth_{n:038d}"), (PATHS, "Basic {n}"), ("/api/telemetry/x", "Bearer {n}")],
)
def test_headers_that_are_no_token_count_as_none(counting: Portal, made_up: str, path: str) -> None:
    _next_minute()

    def ask(address: str, n: int) -> Answer:
        return counting.ask(
            "POST", path, body=b"paths=a", authorization=made_up.format(n=n), x_forwarded_for=address
        )

    answers = in_one_minute(lambda number: from_two(10 + number, ask))
    assert statuses(answers) == [200] * (ANONYMOUS_RATE + 2 * SHARE) + [429] * 2


def test_unknown_tokens_of_the_right_form_count_as_none(counting: Portal) -> None:
    _next_minute()

    def ask(address: str, _: int) -> Answer:
        return paths(counting, address, make_secret())

    answers = in_one_minute(lambda number: from_two(20 + number, ask))
    assert statuses(answers) == [200] * (ANONYMOUS_RATE + 2 * SHARE) + [429] * 2


def test_spelling_of_the_header_gives_a_token_no_second_count(counting: Portal) -> None:
    token = counting.order("person", name="counted-two", repo_id=MODEL, state="granted")["token"]
    _next_minute()

    def ask(number: int) -> list[Answer]:
        return [
            counting.ask(
                "POST", PATHS, body=b"paths=a", authorization=f"{'bearer' if n % 2 else 'Bearer'} {' ' * (n % 7)}{token}",
                x_forwarded_for=f"10.{30 + number}.0.{n}",
            )
            for n in range(TOKEN_RATE + 1)
        ]  # fmt: skip

    assert statuses(in_one_minute(ask)) == [200] * TOKEN_RATE + [429]
