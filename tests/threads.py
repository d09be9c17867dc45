from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection


def all_at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0)` to `work(count - 1)` in threads started together; return results or raise an error."""
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
    """Make statements of this thread fail after waiting 20 s for a lock; reset the connection afterwards."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20s'")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


@contextmanager
def once_main_thread_waits_in(function: Callable[..., Any], do: Callable[[], object]) -> Generator[None]:
    """Call `do` in another thread once the main thread waits for an event in `function` in this block."""
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
