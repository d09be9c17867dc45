"""Calls that were never counted: POSTs without a token, from one address, from many, with made-up tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import pytest

from tests.model_ops.hub.conftest import Answer, Portal
from tests.model_ops.hub.ways import beside

MODEL = "ns/counted"
PATHS = f"/api/models/{MODEL}/paths-info/main"
ADDRESS_RATE, ANONYMOUS_RATE, TOKEN_RATE = 20, 60, 30


@pytest.fixture(scope="module")
def counting(bare_portal: Portal) -> Generator[Portal]:
    """A web process with low limits and its own corner of the cache, and a model."""
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
    """The answers of a try that no minute of the clock ended in: what it asked was counted together."""
    for number in range(5):
        before = int(time.time()) // 60
        answers = ask(number)
        if int(time.time()) // 60 == before:
            return answers
        _next_minute()
    pytest.fail("each try took longer than a minute")


def _next_minute() -> None:
    """What was counted before does not count any more."""
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


def test_callers_without_a_token_are_counted_together_and_people_are_not(counting: Portal) -> None:
    token = counting.order("person", name="counted-one", repo_id=MODEL, state="granted")["token"]
    _next_minute()

    def ask(number: int) -> list[Answer]:
        anonymous = [paths(counting, f"10.{number}.0.{n}") for n in range(ANONYMOUS_RATE + 1)]
        return [*anonymous, paths(counting, f"10.{number}.1.1", token), counting.get("/")]

    *anonymous, late, person, page = in_one_minute(ask)
    assert statuses(anonymous) == [200] * ANONYMOUS_RATE
    assert (late.status, late.headers["ratelimit"].partition(";")[0]) == (429, '"anonymous"')
    assert (person.status, page.status) == (200, 200)


def test_made_up_tokens_count_as_none(counting: Portal) -> None:
    _next_minute()

    def ask(number: int) -> list[Answer]:
        return [
            paths(counting, f"10.{10 + number}.0.{n}", token=f"gth_{n:038d}")
            for n in range(ANONYMOUS_RATE + 1)
        ]

    answers = in_one_minute(ask)
    assert statuses(answers) == [200] * ANONYMOUS_RATE + [429]
