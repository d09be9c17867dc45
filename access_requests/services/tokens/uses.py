"""When a token was last used, from where and by what: noted in memory, written beside the requests.

A request costs no query for it. A thread of the web process writes what was noted, each token at most once a
minute from the same address, and the process writes the rest when it ends. A process that is killed loses at
most the last minute of it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from django.db import DataError, InterfaceError, OperationalError, connection
from django.db.models import Q
from django.utils import timezone

from access_requests.models import AccessToken
from access_requests.storable_text import drop_unstorable

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0  # seconds
WRITE_EVERY = timedelta(minutes=1)
Key = TypeVar("Key", int, str)
MOST_NOTED = 100_000  # tokens; beyond that a use is not noted, rather than memory filled


@dataclass(frozen=True)
class Use:
    """When, from where and by what a token was used last."""

    at: datetime
    address: str | None
    client: str


class Uses(Generic[Key]):
    """The uses that this process has seen and not written, the newest of each token (or session)."""

    def __init__(
        self,
        write: Callable[[Key, Use], None] | None = None,
        *,
        of: str = "tokens",
        every: timedelta = WRITE_EVERY,
    ) -> None:
        self._write: Callable[[Any, Use], None] = write or _write
        self._of, self._every = of, every
        self._lock = threading.Lock()
        self._waiting: dict[Key, Use] = {}
        self._written: dict[Key, Use] = {}
        self._writer_of = 0  # the process whose thread writes; after a fork the child has none
        self._in_background = False

    def note(self, token_id: Key, *, address: str | None, client: str) -> None:
        """Keeps a use in memory; the newest of each token is written later."""
        use = Use(timezone.now(), address, drop_unstorable(client)[:200])
        with self._lock:
            if token_id in self._waiting or len(self._waiting) < MOST_NOTED:
                self._waiting[token_id] = use
            if self._in_background and self._writer_of != os.getpid():
                self._writer_of = os.getpid()
                threading.Thread(
                    target=self._write_now_and_then, name=f"uses-of-{self._of}", daemon=True
                ).start()

    def write_in_background(self) -> None:
        """From the next use on a thread of this process writes, and its end writes the rest; for servers."""
        if not self._in_background:
            self._in_background = True
            atexit.register(self._flush_at_exit)

    def flush(self, *, all_of_them: bool = True) -> int:
        """Writes what waits, or only what was not written in the last minute; how many tokens that were.

        What cannot be written waits on.
        """
        due = self._take(all_of_them)
        done = 0
        try:
            for token_id, use in sorted(due.items()):
                with suppress(
                    DataError, ValueError
                ):  # one that can never be written must not hold up the others
                    self._write(token_id, use)
                done += 1
        except Exception:
            with self._lock:
                left = dict(sorted(due.items())[done:])
                self._waiting = left | self._waiting
            raise
        return done

    def _take(self, all_of_them: bool) -> dict[Key, Use]:
        with self._lock:
            old = timezone.now() - self._every
            self._written = {pk: use for pk, use in self._written.items() if use.at > old}
            due = {
                pk: use
                for pk, use in self._waiting.items()
                if all_of_them or pk not in self._written or self._written[pk].address != use.address
            }
            self._waiting = {pk: use for pk, use in self._waiting.items() if pk not in due}
            self._written |= due
            return due

    def _write_now_and_then(self) -> None:
        while True:
            time.sleep(LOOK_EVERY)
            try:
                self.flush(all_of_them=False)
            except (OperationalError, InterfaceError) as error:
                log.warning("The last uses of %s wait for the database: %s", self._of, error)
            except Exception:
                log.exception("The last uses of %s could not be written; they wait.", self._of)
            finally:
                connection.close()

    def _flush_at_exit(self) -> None:
        if not self._waiting:
            return
        try:
            self.flush()
        except Exception as error:
            log.warning("The last uses of some %s are lost: %s", self._of, error)


def _write(token_id: int, use: Use) -> None:
    """Another process may have written a newer one."""
    older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=use.at)
    AccessToken.objects.filter(older, pk=token_id).update(
        last_used_at=use.at, last_used_address=use.address, last_used_client=use.client
    )


uses: Uses[int] = Uses()


def flush_uses() -> int:
    """Writes every use noted in this process now; how many tokens that were."""
    return uses.flush()
