"""Rate limits apply where clients wait and try again, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import pytest
from huggingface_hub import HfApi, snapshot_download

from tests.model_ops.hub.conftest import MODEL, Answer, Portal
from tests.model_ops.hub.ways import beside

ADDRESS_RATE, TOKEN_RATE = 40, 20
T = TypeVar("T")


@pytest.fixture(scope="module")
def strict(portal: Portal) -> Generator[Portal]:
    """A web process with low limits and its own cache database."""
    settings = {
        "GATEHOUSE_ADDRESS_RATE": str(ADDRESS_RATE),
        "GATEHOUSE_TOKEN_RATE": str(TOKEN_RATE),
        "REDIS_URL": portal.environment["REDIS_URL"].replace("db=7", "db=8"),
        "GATEHOUSE_PROXIES": "127.0.0.1",
    }
    with beside(portal, **settings) as web:
        yield web


def within_a_minute(ask: Callable[[int], T]) -> T:
    """Return the answer of an attempt within one minute of the clock, whose calls were counted together."""
    for number in range(5):
        before = int(time.time()) // 60
        answer = ask(number)
        if int(time.time()) // 60 == before:
            return answer
    pytest.fail("each try took longer than a minute")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("busy-1", "/{model}/resolve/{commit}/config.json"),
        ("busy-2", "/{model}/raw/{commit}/config.json"),
        ("busy-3", "/api/models/{model}/tree/{commit}"),
        ("busy-4", "/api/models"),
    ],
)
def test_token_is_told_to_wait_where_clients_do(strict: Portal, name: str, path: str) -> None:
    path = path.format(model=MODEL, commit=strict.commit)

    def ask(number: int) -> tuple[str, str, list[Answer]]:
        address = f"192.0.2.{10 * int(name[-1]) + number}"
        token = strict.order("person", name=f"{name}-{number}", repo_id=MODEL, state="granted")["token"]
        asked = [strict.ask("GET", path, token=token, x_forwarded_for=address) for _ in range(TOKEN_RATE + 1)]
        return token, address, asked

    token, address, answers = within_a_minute(ask)
    assert [answer.status for answer in answers] == [200] * TOKEN_RATE + [429]
    late = answers[-1].headers
    assert late["retry-after"].isdecimal()
    assert 1 <= int(late["retry-after"]) <= 60
    assert (late["x-error-code"], late["ratelimit"]) == (
        "TooManyRequests",
        f'"token";r=0;t={late["retry-after"]}',
    )
    assert late["ratelimit-policy"] == f'"fixed window";"token";q={TOKEN_RATE};w=60'
    for method, other in (
        ("HEAD", f"/{MODEL}/resolve/{strict.commit}/config.json"),
        ("GET", f"/api/models/{MODEL}"),
        ("GET", f"/api/models/{MODEL}/revision/main"),
        ("GET", f"/api/models/{MODEL}/refs"),
        ("GET", f"/api/models/{MODEL}/auth-check"),
        ("GET", "/api/whoami-v2"),
        ("POST", f"/api/models/{MODEL}/paths-info/main"),
        ("GET", "/"),
    ):
        assert strict.ask(method, other, token=token, x_forwarded_for=address).status == 200, other


def test_address_is_counted_over_all_its_tokens_right_or_wrong(strict: Portal) -> None:
    path = f"/{MODEL}/resolve/{strict.commit}/config.json"

    def guess(number: int) -> list[Answer]:
        address = f"198.51.100.{100 + number}"
        guesses = [f"gth_{n:038d}" for n in range(ADDRESS_RATE)]
        answers = [strict.ask("GET", path, token=guess, x_forwarded_for=address) for guess in guesses]
        return [*answers, strict.get(path, "granted", x_forwarded_for=address)]

    *guessed, late = within_a_minute(guess)
    assert [answer.status for answer in guessed] == [401] * ADDRESS_RATE
    assert (late.status, late.headers["ratelimit"].partition(";")[0]) == (429, '"address"')
    assert strict.get(path, "granted", x_forwarded_for="198.51.100.8").status == 200


@pytest.mark.slow
def test_client_waits_and_brings_the_whole_snapshot(strict: Portal, tmp_path: Path) -> None:
    """There are more files than the rest of a minute allows; huggingface_hub waits as long as it is told."""
    token = strict.order("person", name="patient-one", repo_id=MODEL, state="granted")["token"]
    for _ in range(TOKEN_RATE - 2):
        assert strict.ask("GET", f"/api/models/{MODEL}/tree/main", token=token).status == 200
    folder = snapshot_download(MODEL, endpoint=strict.url, token=token, cache_dir=tmp_path)
    assert (Path(folder) / "model.safetensors").read_bytes() == strict.files["model.safetensors"]


def test_limits_are_forgotten_while_the_cache_is_away(portal: Portal) -> None:
    settings = {"GATEHOUSE_TOKEN_RATE": "1", "REDIS_URL": "unix:///nonexistent/valkey.sock"}
    path = f"/{MODEL}/resolve/{portal.commit}/config.json"
    with beside(portal, **settings) as web:
        assert [web.get(path, "granted").status for _ in range(4)] == [200] * 4


def test_limits_are_off_at_nought(portal: Portal) -> None:
    settings = {"GATEHOUSE_TOKEN_RATE": "0", "GATEHOUSE_ADDRESS_RATE": "0"}
    with beside(portal, **settings) as web:
        api = HfApi(endpoint=web.url, token=portal.tokens["granted"])
        assert len([*api.list_models(limit=5)]) >= 1
