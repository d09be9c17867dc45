"""Append to the event log and check its chain.

An event's row holds what may stay for ever: kind, ids, codes, numbers, times, hashes. Names, addresses and
free text are in separate rows, each with its own salt (`EventText`), and the event's row holds their digests;
so a text can be erased later without breaking the chain. The database writes the links of the chain in a
trigger that is deferred to the commit: its lock is the last and the shortest of a transaction
(ARCHITECTURE.md, "The order of locks").
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.utils import timezone

from access_requests.models import AccessRequest, Event, EventLink, EventText, GatedModel, Grant
from access_requests.models.audit import ACTOR
from access_requests.services.list_places import note_place

if TYPE_CHECKING:
    from portal.accounts.models import User

FIRST_HASH = "0" * 64
SALT = 16  # bytes
MOST_BAD = 20  # bad places that a report names
WRITERS = frozenset(
    ("system", "policy", "operator", "leak report")
)  # parts of the portal that act without a person
# Keys of data that name and quote no one. The values of other keys are kept as texts that can be erased, except numbers,
# booleans and null.
FACTS = frozenset(
    (
        "added", "at", "binding", "commit", "commits", "erased", "family", "for", "from", "gate", "head", "issuer", "licences", "parent",
        "retired", "role", "sha256", "source", "state", "status", "to", "until",
    )
)  # fmt: skip


@dataclass(frozen=True)
class ChainReport:
    """`bad` lists the first places where an event was changed, lost or moved; `head` is the last link.

    `erased` is the number of texts that an event says were erased.
    """

    events: int
    bad: list[int]
    head: tuple[int, str]
    erased: int

    @property
    def ok(self) -> bool:
        return not self.bad

    @property
    def first_bad(self) -> int | None:
        return self.bad[0] if self.bad else None


@contextmanager
def recorded() -> Iterator[None]:
    """Open the transaction of a service that appends events, or join the one that is already open."""
    with transaction.atomic():
        yield


def append_event(
    *,
    kind: str,
    actor: User | None = None,
    by: str = "system",
    model: GatedModel | None = None,
    request: AccessRequest | None = None,
    grant: Grant | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Append an event inside the caller's transaction; the database links it into the chain at commit.

    Without an actor, `by` says who acted. `data` holds strings, integers, booleans, null,
    lists and maps of them. Everything that may name or quote a person is stored beside the event: all data except `FACTS`, and all
    names except `WRITERS`.
    """
    facts, texts = _split_data(data or {})
    writer = by if actor is None and by in WRITERS else ""
    if not writer:
        texts[ACTOR] = actor.username if actor else by
    rows = [
        EventText(name=name, salt=secrets.token_bytes(SALT), text=canonical(value))
        for name, value in texts.items()
    ]
    event = Event(
        at=timezone.now(),
        kind=kind,
        actor=actor,
        writer=writer,
        model=model,
        request=request,
        grant=grant,
        facts=facts,
        digests={row.name: text_digest(row) for row in rows},
    )
    event.digest = event_digest(event)
    event._given = texts
    with recorded():
        event.save(force_insert=True)
        for row in rows:
            row.event = event
        EventText.objects.bulk_create(rows)
        if kind.startswith(("request.", "grant.")):
            note_place(request=request, grant=grant)
    return event


def _split_data(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts among the data, and the texts, which may name or quote a person."""
    texts = {
        key: value
        for key, value in data.items()
        if key not in FACTS and value is not None and not isinstance(value, bool | int)
    }
    return {key: value for key, value in data.items() if key not in texts}, texts


def canonical(value: Any) -> str:
    """Return the value as JSON in the only form that is hashed: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def text_digest(row: EventText) -> str:
    """Return SHA-256 (hex) of salt and text; "" if they were erased."""
    if row.salt is None or row.text is None:
        return ""
    return hashlib.sha256(bytes(row.salt) + row.text.encode()).hexdigest()


def event_digest(event: Event) -> str:
    """Return SHA-256 of the content of an event of format 2, without its place in the chain."""
    content = {
        "format": event.format,
        "at": _canonical_time(event.at),
        "kind": event.kind,
        "actor": event.actor_id,
        "writer": event.writer,
        "model": event.model_id,
        "request": event.request_id,
        "grant": event.grant_id,
        "data": event.facts,
        "texts": event.digests,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def link_hash(number: int, previous_hash: str, digest: str) -> str:
    """Return the hash of a link; the trigger in migration 0012 computes the same from these three values."""
    return hashlib.sha256(f"{number} {previous_hash} {digest}".encode()).hexdigest()


def old_hash(event: Event) -> str:
    """Return the hash of an event of format 1: SHA-256 over its content and the hash before it, as canonical JSON."""
    content = {
        "number": event.old_number,
        "at": _canonical_time(event.at),
        "kind": event.kind,
        "actor": event.actor_id,
        "actor_name": event.writer,
        "model": event.model_id,
        "request": event.request_id,
        "grant": event.grant_id,
        "data": event.facts,
        "previous": event.old_previous_hash,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _canonical_time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


# --- reading ---


def head() -> tuple[int, str]:
    """Return number and hash of the chain's last event; 0 and zeros if there is none."""
    if link := EventLink.objects.order_by("-number").first():
        return link.number, link.hash
    last = Event.objects.filter(old_number__isnull=False).order_by("-old_number").first()
    return (last.old_number or 0, last.old_hash) if last else (0, FIRST_HASH)


def hashes_of(numbers: list[int]) -> dict[int, str]:
    """Return the hash at each of these places of the chain that exist."""
    old = Event.objects.filter(old_number__in=numbers).values_list("old_number", "old_hash")
    return {number: hash for number, hash in old if number is not None} | dict(
        EventLink.objects.filter(number__in=numbers).values_list("number", "hash")
    )


@contextmanager
def one_moment() -> Iterator[None]:
    """Read, within the block, only data committed before it; inside a transaction, first chain its events."""
    inside = connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if inside:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        else:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def verify_chain() -> ChainReport:
    """Compute every hash again from the first event on, and continue after wrong ones.

    Memory grows only with the number of erasures.
    """
    bad: list[int] = []
    with one_moment():
        events = Event.objects.count()
        erasures = Event.objects.filter(kind="text.erased", format=2).values_list("facts", flat=True)
        erased = {pk for facts in erasures for pk in facts.get("erased", [])}
        number, last = 0, FIRST_HASH
        for event in Event.objects.filter(format=1).order_by("old_number").iterator(chunk_size=1000):
            place = event.old_number or 0
            well = event.old_previous_hash == last and event.old_hash == old_hash(event)
            if place != number + 1 or not well:
                _note_bad(bad, min(place, number + 1))
            number, last = place, event.old_hash
        number, last = _verify_links(number, last, erased, bad)
        if Event.objects.filter(format=2, link=None).exists():
            bad.append(number + 1)  # events without a place in the chain
    return ChainReport(events=events, bad=bad[:MOST_BAD], head=(number, last), erased=len(erased))


def _verify_links(number: int, previous: str, erased: set[int], bad: list[int]) -> tuple[int, str]:
    """Check the events after the last one of format 1; the first of them closes that chain."""
    closed = {"number": number, "hash": previous} if number else None
    rows = EventLink.objects.select_related("event").prefetch_related("event__texts").order_by("number")
    for link in rows.iterator(chunk_size=1000):
        event = link.event
        texts = {row.name: row for row in event.texts.all()}
        well = (
            link.previous_hash == previous
            and link.hash == link_hash(link.number, previous, event.digest)
            and event.format == 2
            and event.digest == event_digest(event)
            and texts.keys() == event.digests.keys()
            # Each text is unchanged, or was erased with an event that says so.
            and all(
                text_digest(row) == event.digests[name] if row.text is not None else row.pk in erased
                for name, row in texts.items()
            )
        )
        if closed is not None:
            well = well and event.kind == "log.closed" and event.facts.get("head") == closed
            closed = None
        if link.number != number + 1 or not well:
            _note_bad(bad, min(link.number, number + 1))
        number, previous = link.number, link.hash
    if closed is not None:
        _note_bad(bad, number + 1)
    return number, previous


def _note_bad(bad: list[int], number: int) -> None:
    if len(bad) < MOST_BAD:
        bad.append(number)
