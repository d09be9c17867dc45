"""The line for connections is fair while it moves, and short while it does not."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from portal.database.line import Line

LONG = 200.0  # seconds; longer than any test takes


def wait_for(condition: threading.Condition, line: Line, count: int) -> None:
    """Wait until this many threads are in the line."""
    with condition:
        while len(line._waiting) != count:
            condition.wait(0.01)


def test_places_go_to_those_who_came_first() -> None:
    line, looking = Line(1, most_waiting=10), threading.Condition()
    served: list[int] = []
    line.enter(LONG)

    def come(number: int) -> None:
        line.enter(LONG)
        served.append(number)
        line.moves()
        line.leave()

    with ThreadPoolExecutor(5) as threads:
        for number in range(5):
            threads.submit(come, number)
            wait_for(looking, line, number + 1)
            line.moves()
        line.leave()
    assert served == [0, 1, 2, 3, 4]
    line.enter(0)


def test_patience_ends_and_the_turn_is_given_up() -> None:
    line = Line(1, most_waiting=10)
    line.enter(LONG)
    with pytest.raises(PoolTimeout):
        line.enter(0.01)
    line.leave()
    line.enter(0)


class Interrupted(BaseException):
    """The exception that a signal raises in a waiting thread."""


def test_turn_of_a_thread_that_is_interrupted_is_given_up() -> None:
    line, looking = Line(1, most_waiting=10), threading.Condition()
    line.enter(LONG)

    def interrupt(*_: object) -> None:
        raise Interrupted

    def send() -> None:
        wait_for(looking, line, 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(Interrupted):
            line.enter(LONG)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    line.leave()
    line.enter(0)


def test_places_that_are_lost_are_given_to_nobody() -> None:
    line, looking = Line(3, most_waiting=10), threading.Condition()
    for _ in range(3):
        line.enter(LONG)
    line.lose(2)
    with ThreadPoolExecutor(1) as threads:
        served = threads.submit(line.enter, LONG)
        wait_for(looking, line, 1)
        line.leave()
        line.leave()
        assert len(line._waiting) == 1
        line.leave()
        served.result()
    line.leave()
    line.enter(0)
    with pytest.raises(PoolTimeout):
        line.enter(0)


def test_only_a_few_wait_while_nothing_moves() -> None:
    """Of five waiting threads all but two are refused, once no place has become free for a second."""
    line, looking = Line(1, most_waiting=2), threading.Condition()
    line.enter(LONG)
    refused = []

    def come() -> None:
        try:
            line.enter(LONG)
        except TooManyRequests:
            refused.append(1)
        else:
            line.leave()

    with ThreadPoolExecutor(5) as threads:
        for _ in range(5):
            threads.submit(come)
        wait_for(looking, line, 5)
        wait_for(looking, line, 2)
        with pytest.raises(TooManyRequests):
            line.enter(LONG)
        line.leave()
    assert len(refused) == 3
    line.enter(0)


def test_many_threads_never_hold_more_than_there_is() -> None:
    line, lock = Line(3, most_waiting=100), threading.Lock()
    inside, most = 0, 0

    def come(_: int) -> None:
        nonlocal inside, most
        for _ in range(100):
            line.enter(LONG)
            line.moves()
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0)  # let another thread run
            with lock:
                inside -= 1
            line.leave()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(come, range(16)))
    assert inside == 0
    assert most <= 3
