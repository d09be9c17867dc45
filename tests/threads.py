from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection


def all_at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Runs `work(0)` to `work(count - 1)` in threads that start together; their results, an exception raised here."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        try:
            barrier.wait()
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run, n) for n in range(count)]]


@contextmanager
def impatient() -> Generator[None]:
    """A statement of this thread that waits 20 s for a lock is an error. The connection goes back as it came."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20s'")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


@contextmanager
def once_main_thread_waits_in(function: Callable[..., Any], do: Callable[[], object]) -> Generator[None]:
    """Calls `do` in another thread as soon as the main thread, in this block, waits for an event in that function."""
    ended = threading.Event()

    def waits() -> bool:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_code.co_filename == threading.__file__:
            within, frame = frame.f_code.co_name, frame.f_back
            if frame is not None and within == "wait" and frame.f_code is function.__code__:
                return True
        return False

    def watch() -> None:
        while not waits():
            if ended.wait(0.005):
                return
        do()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
