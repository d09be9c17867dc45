"""What `bench scale` makes, decided before anything is written: who asks for which model, when, and what becomes of it.

Everything follows from the number of requests and a seed, so that two processes that write different tables agree.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect
from dataclasses import dataclass, field
from itertools import accumulate

DAY = 86_400
YEARS = 3.5 * 365 * DAY  # seconds from the first request until now
SHARE_OF_THE_LARGEST = 0.10
FLATTEN = 6  # places that the other models' Zipf curve leaves out
STATES = (
    "draft", "submitted", "in_review", "appealed", "changes_requested", "approved", "rejected", "withdrawn", "reset",
)  # fmt: skip
DRAFT, SUBMITTED, IN_REVIEW, APPEALED, CHANGES, APPROVED, REJECTED, WITHDRAWN, RESET = range(len(STATES))
DECIDED = frozenset((CHANGES, APPROVED, REJECTED, RESET, APPEALED))
CLOSED = frozenset((APPROVED, REJECTED, WITHDRAWN, RESET))
# Of a hundred requests, by state: those of the last weeks, and older ones.
RECENT = (4.0, 26.0, 6.0, 0.5, 4.0, 50.0, 6.0, 3.0, 0.5)
OLDER = (3.0, 1.0, 0.4, 0.3, 2.0, 76.3, 12.0, 3.0, 2.0)
RECENT_SHARE = 0.05
BY_POLICY = (3.0, 0.0, 0.0, 0.0, 0.0, 97.0, 0.0, 0.0, 0.0)
LENGTHS = (365, 365, 365, 730, 180, 90)  # days that grants of a model last
LIVE, ENDED, REVOKED = range(3)


@dataclass(frozen=True)
class Sizes:
    """How many of everything there are for so many requests."""

    requests: int

    @property
    def people(self) -> int:
        return max(60, self.requests * 3 // 10)

    @property
    def models(self) -> int:
        return min(2000, max(20, self.requests // 500))

    @property
    def staff(self) -> int:
        """Owners and reviewers, the first of the people."""
        return min(300, max(8, self.models // 5), self.people // 4)

    @property
    def downloads(self) -> int:
        return 2 * self.requests


@dataclass
class Plan:
    """One place in each array for each request, in the order of submission; times are seconds since 1970.

    A grant's number counts from 1; 0 is none. Person 0 is a superuser, 1 reviews most models, 2 asked for very many.
    """

    sizes: Sizes
    now: int
    model: array[int] = field(default_factory=lambda: array("i"))
    person: array[int] = field(default_factory=lambda: array("i"))
    state: bytearray = field(default_factory=bytearray)
    submitted: array[int] = field(default_factory=lambda: array("q"))
    decided: array[int] = field(default_factory=lambda: array("q"))
    reviewer: array[int] = field(default_factory=lambda: array("i"))
    grant: array[int] = field(default_factory=lambda: array("i"))
    # One place for each grant.
    granted: array[int] = field(default_factory=lambda: array("i"))  # the request
    ends: array[int] = field(default_factory=lambda: array("q"))
    fate: bytearray = field(default_factory=bytearray)
    closed: array[int] = field(default_factory=lambda: array("q"))
    roles: list[list[int]] = field(default_factory=list)  # of each model: its owner, then reviewers


SUPERUSER, REVIEWER, BUSY = 0, 1, 2  # people


def is_auto(model: int) -> bool:
    """Whether the model's gate is opened by policy."""
    return model % 10 == 7


def has_licence(model: int) -> bool:
    """Whether a licence is accepted with each request."""
    return not is_auto(model) and model % 3 != 1


def is_published(model: int) -> bool:
    """Whether the model has weights; the others' grants wait for them."""
    return model < 10 or model % 10 != 9


def is_listed(model: int) -> bool:
    """Whether the catalogue shows the model to everyone."""
    return model % 25 != 24


def make_plan(requests: int, *, now: int, seed: int = 1) -> Plan:
    """Return the plan for so many requests."""
    chance = random.Random(seed)
    plan = Plan(Sizes(requests), now)
    plan.roles = [_roles(model, plan.sizes, chance) for model in range(plan.sizes.models)]
    _choose_pairs(plan, chance)
    for number in range(requests):
        _decide(plan, number, chance)
    return plan


def _roles(model: int, sizes: Sizes, chance: random.Random) -> list[int]:
    """Return one owner and up to three reviewers; one person reviews three of four models."""
    first = BUSY + 1
    named = [first + model % (sizes.staff - first), *chance.choices(range(first, sizes.staff), k=model % 3)]
    if model % 4 != 3:
        named.append(REVIEWER)
    return list(dict.fromkeys(named))


def _choose_pairs(plan: Plan, chance: random.Random) -> None:
    """Choose who asks for which model; nobody asks twice for the same one, and one person asks for very many."""
    sizes = plan.sizes
    rest = [1 / (place + FLATTEN) for place in range(1, sizes.models)]
    scale = (1 - SHARE_OF_THE_LARGEST) / sum(rest)
    bounds = list(accumulate([SHARE_OF_THE_LARGEST, *(scale * weight for weight in rest)]))
    known: set[int] = set()
    busy = min(sizes.models, 200)
    every = max(2, sizes.requests // busy)
    asked, draw = 0, chance.random
    for number in range(sizes.requests):
        if number % every == 1 and asked < busy:
            model, person = asked, BUSY
            asked += 1
        else:
            model = min(bisect(bounds, draw()), sizes.models - 1)
            person = sizes.staff + int((sizes.people - sizes.staff) * draw() ** 1.3)
            while model * sizes.people + person in known:
                person = sizes.staff + int((sizes.people - sizes.staff) * draw())
        known.add(model * sizes.people + person)
        plan.model.append(model)
        plan.person.append(person)


def _decide(plan: Plan, number: int, chance: random.Random) -> None:
    """Choose when one request was submitted and what became of it."""
    requests, model = plan.sizes.requests, plan.model[number]
    place = number / requests
    submitted = int(plan.now - DAY - YEARS * (1 - place)) + chance.randrange(60)
    if plan.submitted and submitted <= plan.submitted[-1]:
        submitted = plan.submitted[-1] + (number % 7 == 0)  # some at the same second
    shares = BY_POLICY if is_auto(model) else RECENT if place > 1 - RECENT_SHARE else OLDER
    state = chance.choices(range(len(STATES)), shares)[0]
    waits = 0 if is_auto(model) else 3600 + int(chance.expovariate(1 / (4 * DAY)))
    decided = min(submitted + waits, plan.now - 1800) if state in DECIDED or state == WITHDRAWN else 0
    plan.submitted.append(submitted)
    plan.state.append(state)
    plan.decided.append(decided)
    plan.reviewer.append(chance.choice(plan.roles[model]))
    plan.grant.append(_grant(plan, number, decided, chance) if state == APPROVED else 0)


def _grant(plan: Plan, number: int, start: int, chance: random.Random) -> int:
    ends = start + LENGTHS[plan.model[number] % len(LENGTHS)] * DAY
    fate, closed = LIVE, 0
    if chance.random() < 0.03:
        stop = min(ends, plan.now) - 1
        fate, closed = REVOKED, chance.randrange(start + 1, max(start + 2, stop))
    elif ends <= plan.now:
        fate, closed = ENDED, min(ends + chance.randrange(300), plan.now)
    plan.granted.append(number)
    plan.ends.append(ends)
    plan.fate.append(fate)
    plan.closed.append(closed)
    return len(plan.granted)
