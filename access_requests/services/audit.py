"""The event log: one writer, one chain, one check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.utils import timezone

from access_requests.models import AccessRequest, Event, GatedModel, Grant

if TYPE_CHECKING:
    from portal.accounts.models import User

FIRST_HASH = "0" * 64
CHAIN_LOCK = 0x6761746568  # "gateh": one appender at a time, so that the chain has no fork


@dataclass(frozen=True)
class ChainReport:
    """`first_bad` is the number of the first event that is changed, missing or out of place."""

    ok: bool
    events: int
    first_bad: int | None


@contextmanager
def recorded() -> Iterator[None]:
    """The transaction of a service that appends events; within another one it joins that.

    It takes the chain's lock before it locks a row: whoever locked rows first and appended then would sooner or
    later wait in a circle with somebody who did it the other way round, be it for the row of the model alone,
    which every event refers to.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
        yield


def append_event(
    *,
    kind: str,
    actor: User | None = None,
    actor_name: str = "",
    model: GatedModel | None = None,
    request: AccessRequest | None = None,
    grant: Grant | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Appends to the chain inside the caller's `recorded()`; without an actor, `actor_name` says who (default "system")."""
    with recorded():
        last = Event.objects.order_by("-number").values("number", "hash").first()
        event = Event(
            number=last["number"] + 1 if last else 1,
            at=timezone.now(),
            kind=kind,
            actor=actor,
            actor_name=actor_name or (actor.username if actor else "system"),
            model=model,
            request=request,
            grant=grant,
            data=data or {},
            previous_hash=last["hash"] if last else FIRST_HASH,
        )
        event.hash = event_hash(event)
        event.save(force_insert=True)
        return event


def event_hash(event: Event) -> str:
    """SHA-256 over the event's content and the hash before it, as canonical JSON."""
    content = {
        "number": event.number,
        "at": _moment(event.at),
        "kind": event.kind,
        "actor": event.actor_id,
        "actor_name": event.actor_name,
        "model": event.model_id,
        "request": event.request_id,
        "grant": event.grant_id,
        "data": event.data,
        "previous": event.previous_hash,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def verify_chain() -> ChainReport:
    """Recomputes every hash from the first event on; memory does not grow with the log."""
    expected, previous, count = 1, FIRST_HASH, 0
    for event in Event.objects.order_by("number").iterator(chunk_size=1000):
        count += 1
        if event.number != expected or event.previous_hash != previous or event.hash != event_hash(event):
            return ChainReport(ok=False, events=Event.objects.count(), first_bad=min(event.number, expected))
        expected, previous = expected + 1, event.hash
    return ChainReport(ok=True, events=count, first_bad=None)
