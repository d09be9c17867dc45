"""Cards sent for a check without a token, each of which once kept a CPU busy for ten seconds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator

import pytest

from access_requests.cards.bounds import ANONYMOUS
from model_ops.hub.uploads.create import CARDS_OF_ADDRESS, CARDS_OF_ANYBODY, CARDS_OF_NEWCOMER
from tests.attacks.portal.lines import all_well, statuses
from tests.model_ops.hub.conftest import Answer, Portal
from tests.model_ops.hub.ways import beside

SENDERS, EACH = 9, 10  # 47 MB in all, as in the attack
PATH = "/api/validate-yaml"


def card(front: str, **more: object) -> bytes:
    return json.dumps({"content": f"---\n{front}\n---\n", "repoType": "model", **more}).encode()


LARGE = card("a: [" + "1," * 262_000 + "1]")
SHAPES = {
    "list": ("a: [" + "1," * 30_000 + "1]", "more than 5,000 keys and values"),
    "lines": ("- 1\n" * 16_000, "more than 5,000 keys and values"),
    "map": ("a: {" + "".join(f"k{n}: 1," for n in range(6000)) + "}", "more than 5,000 keys and values"),
    "brackets": ("a: " + "[" * 65_000, "nested more than 24 levels"),
    "braces": ("a: " + "{a: " * 16_000, "nested more than 24 levels"),
    "anchors": ("\n".join(f"k{n}: &a{n} 1" for n in range(4000)), "YAML anchor"),
    "aliases": ("a: &a [x]\nb: [" + "*a," * 20_000 + "1]", "YAML anchor"),
    "documents": ("--- \n" * 13_000, ""),
    "directives": ("%TAG !a! tag:x\n" * 4000, "too many lines start with `%`"),
    "keys": ("? " * 32_000, "a label must be text"),
    "too large": ("x" * (ANONYMOUS.front + 1), "larger than 64 KiB"),
}


@pytest.fixture(scope="module")
def fresh(bare_portal: Portal) -> Generator[Portal]:
    """A web process with its own cache database, so that the calls of other tests are not counted."""
    with beside(bare_portal, REDIS_URL=bare_portal.environment["REDIS_URL"].replace("db=7", "db=9")) as web:
        yield web


def send(portal: Portal, body: bytes, address: str) -> Answer:
    return portal.ask("POST", PATH, body=body, content_type="application/json", x_forwarded_for=address)


def test_pages_answer_while_large_cards_are_sent(attacked: Portal) -> None:
    answers: list[int] = []

    def attack(sender: int) -> None:
        for number in range(EACH):
            answers.append(send(attacked, LARGE, f"198.51.{sender}.{number}").status)

    senders = [threading.Thread(target=attack, args=(number,)) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    pages = statuses(attacked.url, rounds=2)
    for sender in senders:
        sender.join()
    assert pages == all_well(rounds=2)
    assert set(answers) <= {413, 429}
    assert 413 in answers


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_refused_with_its_reason(fresh: Portal, name: str) -> None:
    front, sentence = SHAPES[name]
    answer = send(fresh, card(front), f"203.0.113.{list(SHAPES).index(name)}")
    if sentence:
        assert (answer.status, answer.headers["x-error-code"]) == (400, "BadCard")
        assert sentence in answer.json["error"]
    else:
        assert answer.status == 200


def within_a_minute(ask: Callable[[int], list[Answer]]) -> list[Answer]:
    """Return the answers of an attempt that took less than the minute over which calls are counted."""
    for number in range(5):
        before = time.monotonic()
        answers = ask(number)
        if time.monotonic() - before < CARDS_OF_ADDRESS.seconds:
            return answers
    pytest.fail("each try took longer than a minute")


def test_calls_are_counted_before_the_card_is_read(fresh: Portal) -> None:
    def ask(number: int) -> list[Answer]:
        address = f"192.0.2.{100 + number}"
        return [send(fresh, card("a: 1"), address) for _ in range(CARDS_OF_ADDRESS.most + 1)]

    *taken, late = within_a_minute(ask)
    assert {answer.status for answer in taken} == {200}
    assert (late.status, late.headers["x-error-code"]) == (429, "TooManyRequests")
    assert late.headers["retry-after"] == str(CARDS_OF_ADDRESS.seconds)
    assert fresh.get("/", x_forwarded_for="192.0.2.100").status == 200


def test_many_addresses_are_counted_together(bare_portal: Portal) -> None:
    """A few busy addresses use up the common limit; others may still send two, and people are counted separately."""
    with beside(bare_portal, REDIS_URL=bare_portal.environment["REDIS_URL"].replace("db=7", "db=10")) as web:

        def ask(number: int) -> list[Answer]:
            busy = [send(web, b"[]", f"10.{number}.0.{n % 10}") for n in range(CARDS_OF_ANYBODY.most)]
            newcomer = [send(web, b"[]", f"10.{number}.1.1") for _ in range(CARDS_OF_NEWCOMER.most + 1)]
            return [*busy, *newcomer]

        answers = within_a_minute(ask)
        assert [answer.status for answer in answers] == [400] * (len(answers) - 1) + [429]
        bare_portal.order("model", repo_id="ns/for-cards")
        token = bare_portal.order("person", name="card-writer", repo_id="ns/for-cards", state="granted")[
            "token"
        ]
        signed_in = web.ask("POST", PATH, token=token, body=card("a: 1"), content_type="application/json")
        assert signed_in.status == 200
        assert web.get("/").status == 200
