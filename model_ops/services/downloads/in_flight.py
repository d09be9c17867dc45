"""Watch the bodies that this process is sending, and stop them when their right ends.

While there are any, a thread checks them every few seconds in the same way as a new request, and closes the connection
of a body that would be refused now, also while the kernel is sending it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from access_requests.access.access import access_of
from access_requests.models import AccessToken, GatedModel
from access_requests.services.tokens.issuing import live_tokens
from model_ops.body_slots import Place, Places, Room

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0  # seconds
HERE = 56  # bodies that one process sends at once; pages need the rest of its 80 threads


@dataclass(frozen=True)
class Right:
    """The right to a body: the token of the request, which names its person, or none. `open` files need none."""

    model_id: int
    token_id: int | None = None
    open: bool = False


class Sending(Protocol):
    """A body that is being sent."""

    right: Right
    person: str
    counted: bool

    def cut(self) -> None:
        """Close the body's connection."""


class Running:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: dict[Sending, Place | None] = {}
        self._watching = False
        self._places = Places(
            "bodies",
            most=lambda: settings.GATEHOUSE_MOST_BODIES,
            most_each=lambda: settings.GATEHOUSE_MOST_BODIES_EACH,
            here=lambda: HERE,
        )

    def enter(self, body: Sending) -> Room:
        """Add the body if there is room; there is always room for one that isn't counted."""
        place = self._places.take(body.person) if body.counted else None
        if isinstance(place, Room):
            return place
        with self._lock:
            self._bodies[body] = place
            if not body.right.open and not self._watching:
                self._watching = True
                threading.Thread(
                    target=self._watch_bodies, name="rights-of-running-downloads", daemon=True
                ).start()
        return Room.FREE

    def leave(self, body: Sending) -> None:
        """Remove the body and give its place back. Idempotent."""
        with self._lock:
            place = self._bodies.pop(body, None)
        if place is not None:
            self._places.give_back(place)

    def _watch_bodies(self) -> None:
        """Check the bodies until there are none left."""
        while True:
            time.sleep(LOOK_EVERY)
            with self._lock:
                watched = [body for body in self._bodies if not body.right.open]
                if not watched:
                    self._watching = False
                    return
            try:
                for body in without_right(watched):
                    body.cut()
            except (OperationalError, InterfaceError) as error:
                log.warning("The rights of running downloads wait for the database; they go on: %s", error)
            except Exception:
                log.exception("The rights of running downloads could not be looked at; they go on.")
            finally:
                connection.close()


def without_right(bodies: Iterable[Sending]) -> list[Sending]:
    """Return the bodies that would be refused now; each right is checked once."""
    bodies = list(bodies)
    holds = {right: still_holds(right) for right in {body.right for body in bodies}}
    return [body for body in bodies if not holds[body.right]]


def still_holds(right: Right) -> bool:
    """Return whether a new request with the same token would be allowed now; an ended token names no one."""
    model = GatedModel.objects.filter(pk=right.model_id).first()
    token = None
    if right.token_id is not None:
        tokens = live_tokens(AccessToken.objects.filter(pk=right.token_id, user__is_active=True))
        token = tokens.select_related("grant__model", "grant__request", "user").first()
    return model is not None and access_of(token.user if token else None, model, token=token).allowed


running = Running()
