"""Places shared by processes; each `Places` here stands for a separate process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.conf import settings

from model_ops.body_slots import Place, Places, Room
from portal.embedded.valkey import Valkey
from tests.waiting import wait_until

GONE = "unix:///nonexistent/valkey.sock"


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Callable[..., Places]:
    """`process(most=..., ...)`: return the places as another process sees them."""
    kind = request.node.name

    def make(*, most: int, each: int | None = None, here: int | None = None, **more: Any) -> Places:
        limit = (lambda: each) if each is not None else None
        own = (lambda: here) if here is not None else None
        return Places(kind, most=lambda: most, most_each=limit, here=own, **more)

    return make


def taken(places: Places, holder: str = "ada") -> Place:
    place = places.take(holder)
    assert isinstance(place, Place)
    return place


def test_places_are_counted_over_processes(process: Callable[..., Places]) -> None:
    one, other = process(most=3), process(most=3)
    first, _, _ = taken(one), taken(other), taken(one)
    assert [one.take("ada"), other.take("ben")] == [Room.FULL, Room.FULL]
    one.give_back(first)
    one.give_back(first)
    taken(other)
    assert one.take("ada") == Room.FULL


def test_places_of_one_holder_are_counted_over_processes(process: Callable[..., Places]) -> None:
    one, other = process(most=10, each=2), process(most=10, each=2)
    taken(one), taken(other)
    assert [one.take("ada"), other.take("ada")] == [Room.PERSON_FULL, Room.PERSON_FULL]
    taken(one, "ben")


def test_a_refused_place_is_not_counted(process: Callable[..., Places]) -> None:
    one, other = process(most=2, each=1), process(most=2, each=1)
    taken(one)
    assert [other.take("ada") for _ in range(5)] == [Room.PERSON_FULL] * 5
    taken(other, "ben")


class RenewedTooEarly(Places):
    """Places that are renewed before the server was asked for them."""

    def _ask_server(self, place: Place, *, counts: bool = True) -> Room | None:
        super()._ask_server(place, counts=False)
        return super()._ask_server(place, counts=counts)


def test_a_refused_place_is_free_although_it_was_renewed(process: Callable[..., Places]) -> None:
    one = process(most=1)
    place = taken(one)
    other = RenewedTooEarly(one.kind, most=lambda: 1)
    assert other.take("ben") == Room.FULL
    one.give_back(place)
    taken(one)


def test_one_process_keeps_to_what_it_can_hold_itself(process: Callable[..., Places]) -> None:
    one, other = process(most=5, here=2), process(most=5, here=2)
    taken(one), taken(one)
    assert one.take("ada") == Room.FULL
    taken(other), taken(other)


def test_places_of_a_dead_process_become_free(process: Callable[..., Places]) -> None:
    dead, alive = process(most=1, lease=0.2, renew_every=3600), process(most=1)
    taken(dead)
    wait_until(lambda: isinstance(alive.take("ben"), Place))


def test_places_are_renewed_and_survive_a_server_that_forgot_them(process: Callable[..., Places]) -> None:
    one, other = process(most=1, lease=2, renew_every=0.05), process(most=1)
    place = taken(one)
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        server.delete(f"gatehouse:places:{one.kind}", f"gatehouse:places:{one.kind}:ada")
        wait_until(lambda: server.zcard(f"gatehouse:places:{one.kind}") == 1)
    assert other.take("ben") == Room.FULL
    one.give_back(place)
    taken(other, "ben")


def test_each_process_keeps_to_its_share_while_the_server_is_away(
    process: Callable[..., Places], settings: Any
) -> None:
    settings.REDIS_URL, settings.GATEHOUSE_WEB_PROCESSES = GONE, 2
    one, other = process(most=4, each=2), process(most=4, each=2)
    for places in (one, other):
        first = taken(places)
        assert places.take("ada") == Room.PERSON_FULL
        taken(places, "ben")
        assert places.take("eve") == Room.FULL
        places.give_back(first)
        taken(places, "eve")


def test_a_server_that_comes_back_learns_of_what_was_taken_meanwhile(
    process: Callable[..., Places], valkey_server: Valkey, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GATEHOUSE_WEB_PROCESSES = 1
    monkeypatch.setattr("model_ops.body_slots.AWAY", 0.1)
    one, other = process(most=2, renew_every=0.1), process(most=2)
    valkey_server.stop()
    try:
        taken(one), taken(one, "ben")
    finally:
        valkey_server.start()
        valkey_server.wait_ready()
    wait_until(lambda: other.take("eve") == Room.FULL or forget(other))


def forget(places: Places) -> bool:
    """Give back all places of `places`, which were taken before the server knew of the others."""
    for place in list(places._taken):
        places.give_back(place)
    return False


def test_no_more_places_than_there_are_under_a_storm(process: Callable[..., Places]) -> None:
    processes = [process(most=7, each=5) for _ in range(4)]
    got: list[Place | Room] = []
    threads = [
        threading.Thread(target=lambda p=p, n=n: got.append(p.take(f"person-{n % 2}")))  # type: ignore[misc]
        for p in processes
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = [place for place in got if isinstance(place, Place)]
    assert (len(got), len(places)) == (40, 7)
    assert max(sum(p.holder == f"person-{n}" for p in places) for n in range(2)) <= 5
