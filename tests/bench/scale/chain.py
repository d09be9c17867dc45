"""The planned event log as a chain, hashed as `access_requests.services.event_log.append` does it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import psycopg

from access_requests.models import Event, EventLink, EventText
from access_requests.services.event_log.append import SALT
from tests.bench.scale.clock import moment
from tests.bench.scale.copying import copy_rows
from tests.bench.scale.people import username_of
from tests.bench.scale.plan import (
    APPEALED,
    APPROVED,
    CHANGES,
    DRAFT,
    ENDED,
    IN_REVIEW,
    REJECTED,
    RESET,
    STATES,
    WITHDRAWN,
    Plan,
    has_licence,
    is_auto,
)

PIECE = 20_000  # events in each round of three COPYs
STARTED, OPENED = 3, 4  # of every hundred requests, those whose start and opening are logged
CREATED, GONE, BEGAN, HANDED_IN, LOOKED_AT, MADE, CONTESTED = range(7)
EVENT = ("id", "format", "at", "kind", "actor_id", "writer", "model_id", "request_id", "grant_id", "facts", "digests", "digest")  # fmt: skip
KINDS = {
    APPROVED: "request.approved", REJECTED: "request.rejected", CHANGES: "request.changes_requested", RESET: "request.reset",
    WITHDRAWN: "request.withdrawn", APPEALED: "request.rejected",
}  # fmt: skip


@dataclass(frozen=True)
class First:
    """Where the new rows begin: the first free ids, and the head of the existing chain."""

    event: int
    text: int
    request: int
    grant: int
    user: int
    models: list[int]  # ids in the plan's order
    number: int
    hash: str
    sha256: str  # of the licence text


class Happening(NamedTuple):
    """One event that has no position yet: `texts` by name, `facts` as canonical JSON."""

    at: int
    kind: str
    actor: int | None  # index of the person
    model: int
    request: int | None
    grant: int | None
    facts: str
    texts: tuple[tuple[str, str], ...] = ()


def copy_chain(owner: psycopg.Connection[Any], plan: Plan, first: First) -> int:
    """Append the plan's events, texts and links to the existing chain; return the number of events."""
    count, chain = 0, _chained(plan, first)
    while piece := list(islice(chain, PIECE)):
        copy_rows(owner, Event, EVENT, (event for event, _, _ in piece))
        copy_rows(
            owner,
            EventText,
            ("id", "event_id", "name", "salt", "text"),
            (t for _, ts, _ in piece for t in ts),
        )
        copy_rows(
            owner, EventLink, ("number", "event_id", "previous_hash", "hash"), (link for *_, link in piece)
        )
        count += len(piece)
    return count


def _chained(plan: Plan, first: First) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the row, texts and link of each event, in chronological order."""
    event, text, number, previous = first.event, first.text, first.number, first.hash
    salts = random.Random(2)
    names = [username_of(person) for person in range(plan.sizes.people)]
    for what in _in_order(plan):
        one = _happening(plan, what, first, names)
        actor = None if one.actor is None else first.user + one.actor
        texts = [
            (text + place, event, name, salts.randbytes(SALT), value)
            for place, (name, value) in enumerate(one.texts)
        ]
        row = _row(event, one, actor, texts)
        number, text = number + 1, text + len(texts)
        hash = hashlib.sha256(f"{number} {previous} {row[-1]}".encode()).hexdigest()
        yield row, texts, (number, event, previous, hash)
        event, previous = event + 1, hash


def _row(event: int, one: Happening, actor: int | None, texts: list[Any]) -> tuple[Any, ...]:
    """Return the event's columns; the last one is the digest of the others."""
    salted = ((name, hashlib.sha256(salt + value.encode()).hexdigest()) for _, _, name, salt, value in texts)
    digests, at = "{" + ",".join(f'"{name}":"{digest}"' for name, digest in salted) + "}", moment(one.at)
    by_person = one.texts and one.texts[0][0] == "actor_name"
    writer = "" if by_person else "policy" if is_auto_step(one) else "system"
    content = (
        f'{{"actor":{_id(actor)},"at":"{at}","data":{one.facts},"format":2,"grant":{_id(one.grant)},'
        f'"kind":"{one.kind}","model":{one.model},"request":{_id(one.request)},"texts":{digests},"writer":"{writer}"}}'
    )
    digest = hashlib.sha256(content.encode()).hexdigest()
    places = (one.model, one.request, one.grant)
    return event, 2, at, one.kind, actor, writer, *places, one.facts, digests, digest


def is_auto_step(one: Happening) -> bool:
    """Return whether the step was taken by policy rather than by the portal's clock."""
    return one.kind in ("request.approved", "grant.created")


def _id(value: int | None) -> str:
    return "null" if value is None else str(value)


def _in_order(plan: Plan) -> list[tuple[int, int, int]]:
    """Return the time, step and request (or grant) of everything that happened, sorted."""
    found = [
        (plan.submitted[0] - 9000, step, model) for model in range(plan.sizes.models) for step in (-2, -1)
    ]
    for number, state in enumerate(plan.state):
        at, decided = plan.submitted[number], plan.decided[number]
        if state == DRAFT or number * 7919 % 100 < STARTED:
            found.append((at - 900, BEGAN, number))
        if state == DRAFT:
            continue
        found.append((at, HANDED_IN, number))
        if state == IN_REVIEW or (
            decided
            and number * 6007 % 100 < OPENED
            and state != WITHDRAWN
            and not is_auto(plan.model[number])
        ):
            found.append((max(at, decided - 60 if decided else at + 1200), LOOKED_AT, number))
        if decided:
            found.append((decided, MADE, number))
        if state == APPROVED:
            found.append((decided, MADE + 100, plan.grant[number] - 1))
        if state == APPEALED:
            found.append((decided + 600, CONTESTED, number))
    found += [(plan.closed[grant], GONE + 100, grant) for grant, fate in enumerate(plan.fate) if fate]
    found.sort()
    return found


def _happening(plan: Plan, what: tuple[int, int, int], first: First, names: list[str]) -> Happening:
    at, step, number = what
    if step < 0:
        return _of_model(at, step, number, plan, first, names)
    if step >= 100:
        return _of_grant(at, step - 100, number, plan, first, names)
    model, person, state = plan.model[number], plan.person[number], plan.state[number]
    here = (first.models[model], first.request + number, None)
    by_person, by_reviewer = _by(names, person), _by(names, plan.reviewer[number])
    if step == BEGAN:
        return Happening(at, "request.started", person, *here, "{}", by_person)
    if step == HANDED_IN:
        licences = f'"{first.sha256}"' if has_licence(model) else ""
        facts = f'{{"from":"draft","licences":[{licences}],"to":"submitted"}}'
        return Happening(at, "request.submitted", person, *here, facts, by_person)
    if step == LOOKED_AT:
        return Happening(
            at, "request.opened", plan.reviewer[number], *here, _moved("submitted", "in_review"), by_reviewer
        )
    if step == CONTESTED:
        return Happening(at, "request.appealed", person, *here, _moved("rejected", "appealed"), by_person)
    if state == WITHDRAWN:
        return Happening(at, KINDS[state], person, *here, _moved("submitted", "withdrawn"), by_person)
    target = "rejected" if state == APPEALED else STATES[state]
    if is_auto(model):
        return Happening(at, KINDS[state], None, *here, _moved("submitted", target))
    return Happening(at, KINDS[state], plan.reviewer[number], *here, _moved("in_review", target), by_reviewer)


def _of_model(at: int, step: int, model: int, plan: Plan, first: First, names: list[str]) -> Happening:
    owner = plan.roles[model][0]
    if step == -2:
        facts = f'{{"gate":"{"auto" if is_auto(model) else "manual"}"}}'
        return Happening(at, "model.added", owner, first.models[model], None, None, facts, _by(names, owner))
    added = f'"{first.sha256}"' if has_licence(model) else ""
    facts = f'{{"added":[{added}],"retired":[]}}'
    return Happening(
        at, "model.licences_changed", owner, first.models[model], None, None, facts, _by(names, owner)
    )


def _of_grant(at: int, step: int, grant: int, plan: Plan, first: First, names: list[str]) -> Happening:
    number = plan.granted[grant]
    model, reviewer = plan.model[number], plan.reviewer[number]
    here = (first.models[model], first.request + number, first.grant + grant)
    auto = is_auto(model)
    if step == MADE:
        person = (("person", f'"{names[plan.person[number]]}"'),)
        facts = f'{{"source":"{"policy" if auto else "review"}","until":"{moment(plan.ends[grant])}"}}'
        texts = person if auto else _by(names, reviewer) + person
        return Happening(at, "grant.created", None if auto else reviewer, *here, facts, texts)
    if plan.fate[grant] == ENDED:
        return Happening(at, "grant.expired", None, *here, "{}")
    reason = (("reason", '"The project ended."'),)
    return Happening(at, "grant.revoked", reviewer, *here, "{}", _by(names, reviewer) + reason)


def _moved(source: str, target: str) -> str:
    return f'{{"from":"{source}","to":"{target}"}}'


def _by(names: list[str], person: int) -> tuple[tuple[str, str], ...]:
    return (("actor_name", f'"{names[person]}"'),)
