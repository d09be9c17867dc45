"""Record when, from where and by which client tokens were last used, outside of requests.

Requests need no extra query for this. A thread of the web process writes the notes, for each token and
address at most once a minute, and the process writes the rest when it ends. A process that is killed loses at
most the last minute.
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
MOST_NOTED = 100_000  # tokens; further uses are dropped, to limit memory


@dataclass(frozen=True)
class Use:
    """The last use of a token: when, from where, and by which client."""

    at: datetime
    address: str | None
    client: str


class Uses(Generic[Key]):
    """Uses that this process has seen and not written yet: the newest for each token (or session)."""

    def __init__(
        self,
        write: Callable[[Key, Use], None] | None = None,
        *,
        of: str = "tokens",
        every: timedelta = WRITE_EVERY,
    ) -> None:
        self._write: Callable[[Any, Use], None] = write or _write_use
        self._of, self._every = of, every
        self._lock = threading.Lock()
        self._waiting: dict[Key, Use] = {}
        self._written: dict[Key, Use] = {}
        self._writer_of = 0  # the process whose thread writes; after a fork the child has no such thread
        self._in_background = False

    def note(self, token_id: Key, *, address: str | None, client: str) -> None:
        """Keep a use in memory, to be written later; only the newest use of each token counts."""
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
        """Start a thread at the next use, and write the rest when the process ends; for servers."""
        if not self._in_background:
            self._in_background = True
            atexit.register(self._flush_at_exit)

    def flush(self, *, all_of_them: bool = True) -> int:
        """Write what waits, or only what was not written in the last minute; return the number of tokens.

        Uses that cannot be written are kept.
        """
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
        done = 0
        try:
            for token_id, use in sorted(due.items()):
                with suppress(
                    DataError, ValueError
                ):  # one that can never be written must not block the others
                    self._write(token_id, use)
                done += 1
        except Exception:
            with self._lock:
                left = dict(sorted(due.items())[done:])
                self._waiting = left | self._waiting
            raise
        return done

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


def _write_use(token_id: int, use: Use) -> None:
    """Write a use, unless another process has written a newer one."""
    older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=use.at)
    AccessToken.objects.filter(older, pk=token_id).update(
        last_used_at=use.at, last_used_address=use.address, last_used_client=use.client
    )


uses: Uses[int] = Uses()


def flush_uses() -> int:
    """Write every use noted in this process now; return the number of tokens."""
    return uses.flush()
