"""Places that all web processes and machines share: how many transfers run at once, in total and per holder.

Each place is a lease in Valkey, renewed by its process; the places of a process that was killed become free
after `LEASE`. While Valkey does not answer, each process uses only its own share of the places.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import redis
from django.conf import settings

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

LEASE = 30.0  # seconds
RENEW_EVERY = 5.0  # seconds
AWAY = 5.0  # seconds without asking Valkey again after it did not answer, so that requests don't wait for it
ANSWER_WITHIN = 0.5  # seconds

# KEYS: all places, the holder's. ARGV: this place, lease in seconds, most in total, most per holder, whether
# limits apply (0: a renewal). It uses the server's clock, so machines need not agree about the time.
TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
end
if ARGV[5] == '1' then
  if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 1 end
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 2 end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('EXPIRE', key, math.ceil(ARGV[2]) + 1)
end
return 0
"""


class Room(Enum):
    """The answer to a request for a place: free, or the limit that is reached."""

    FREE = 0
    FULL = 1
    PERSON_FULL = 2


@dataclass(frozen=True)
class Place:
    """One taken place and its holder."""

    holder: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


class Places:
    """At most `most()` places over all processes, `most_each()` per holder, and `here` in this process."""

    def __init__(
        self,
        kind: str,
        *,
        most: Callable[[], int],
        most_each: Callable[[], int] | None = None,
        here: Callable[[], int] | None = None,
        lease: float = LEASE,
        renew_every: float = RENEW_EVERY,
    ) -> None:
        self.kind, self.most, self.lease, self.renew_every = kind, most, lease, renew_every
        self.most_each = most_each or most
        self.here = here or most
        self._lock = threading.Lock()
        self._taken: set[Place] = set()
        self._renewing = False
        self._away_until = 0.0
        self._server: Any = None
        self._pid = 0

    def take(self, holder: str) -> Place | Room:
        """Return a place for `holder`, to be given back later; or the reason why there is none."""
        place = Place(holder)
        with self._lock:
            if len(self._taken) >= self.here():
                return Room.FULL
            self._taken.add(place)
        room = self._ask_server(place)
        if room is None:  # use this process's own share; `_taken` includes the new place
            with self._lock:
                taken = Counter(one.holder for one in self._taken)
            if taken.total() > _own_share(self.most()):
                room = Room.FULL
            else:
                room = Room.PERSON_FULL if taken[holder] > _own_share(self.most_each()) else Room.FREE
        if room != Room.FREE:
            with self._lock:
                self._taken.discard(place)
            self._free_place(place)  # a renewal may have run before the request
            return room
        self._start_renewing()
        return place

    def give_back(self, place: Place) -> None:
        """Free the place at once. Idempotent."""
        with self._lock:
            if place not in self._taken:
                return
            self._taken.remove(place)
        self._free_place(place)

    def _free_place(self, place: Place) -> None:
        self._call_server(
            lambda server: [server.zrem(key, place.name) for key in self._place_keys(place.holder)]
        )

    def _ask_server(self, place: Place, *, counts: bool = True) -> Room | None:
        """Take or renew the place on the server; return None while it does not answer."""
        limits = [self.lease, self.most(), self.most_each(), int(counts)]
        answer = self._call_server(
            lambda server: server.eval(TAKE, 2, *self._place_keys(place.holder), place.name, *limits)
        )
        return None if answer is None else Room(answer)

    def _place_keys(self, holder: str) -> list[str]:
        return [f"gatehouse:places:{self.kind}", f"gatehouse:places:{self.kind}:{holder}"]

    def _start_renewing(self) -> None:
        """Start the thread that renews the places, unless it already runs."""
        with self._lock:
            if self._renewing:
                return
            self._renewing = True
        threading.Thread(target=self._renew_places, name=f"places-{self.kind}", daemon=True).start()

    def _renew_places(self) -> None:
        """Renew the taken places until there are none, also on a server that has lost them."""
        while True:
            time.sleep(self.renew_every)
            with self._lock:
                taken = list(self._taken)
                if not taken:
                    self._renewing = False
                    return
            for place in taken:
                self._ask_server(place, counts=False)
                if place not in self._taken:  # given back in the meantime
                    self._free_place(place)

    def _call_server(self, question: Callable[[Any], Answer]) -> Answer | None:
        """Return the server's answer, or None while it is unavailable."""
        if time.monotonic() < self._away_until:
            return None
        try:
            if self._server is None or self._pid != os.getpid():
                self._server = redis.Redis.from_url(
                    settings.REDIS_URL, socket_connect_timeout=ANSWER_WITHIN, socket_timeout=ANSWER_WITHIN
                )
                self._pid = os.getpid()
            return question(self._server)
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + AWAY
            log.warning("Valkey does not answer, so this process keeps to its share of places: %s", error)
            return None


def _own_share(most: int) -> int:
    """Return how many places a single web process may use without the server."""
    return max(1, most // settings.GATEHOUSE_WEB_PROCESSES)
