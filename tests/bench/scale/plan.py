"""The plan of `bench scale`, made before anything is written: who asks for which model, and what happens.

The plan depends only on the number of requests and a seed, so that two processes that write different tables
agree.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect
from dataclasses import dataclass, field
from itertools import accumulate

DAY = 86_400
YEARS = 3.5 * 365 * DAY  # seconds between the first request and now
SHARE_OF_THE_LARGEST = 0.10
FLATTEN = 6  # ranks that the Zipf curve of the other models leaves out
STATES = (
    "draft", "submitted", "in_review", "appealed", "changes_requested", "approved", "rejected", "withdrawn", "reset",
)  # fmt: skip
DRAFT, SUBMITTED, IN_REVIEW, APPEALED, CHANGES, APPROVED, REJECTED, WITHDRAWN, RESET = range(len(STATES))
DECIDED = frozenset((CHANGES, APPROVED, REJECTED, RESET, APPEALED))
CLOSED = frozenset((APPROVED, REJECTED, WITHDRAWN, RESET))
# The states of each hundred requests: those of the last weeks, and older ones.
RECENT = (4.0, 26.0, 6.0, 0.5, 4.0, 50.0, 6.0, 3.0, 0.5)
OLDER = (3.0, 1.0, 0.4, 0.3, 2.0, 76.3, 12.0, 3.0, 2.0)
RECENT_SHARE = 0.05
BY_POLICY = (3.0, 0.0, 0.0, 0.0, 0.0, 97.0, 0.0, 0.0, 0.0)
LENGTHS = (365, 365, 365, 730, 180, 90)  # days that a model's grants last
LIVE, ENDED, REVOKED = range(3)


@dataclass(frozen=True)
class Sizes:
    """How many of everything this many requests need."""

    requests: int

    @property
    def people(self) -> int:
        return max(60, self.requests * 3 // 10)

    @property
    def models(self) -> int:
        return min(2000, max(20, self.requests // 500))

    @property
    def staff(self) -> int:
        """Return the number of owners and reviewers, who come first among the people."""
        return min(300, max(8, self.models // 5), self.people // 4)

    @property
    def downloads(self) -> int:
        return 2 * self.requests


@dataclass
class Plan:
    """One entry in each array per request, in the order of submission; times are seconds since 1970.

    Grants are numbered from 1; 0 means no grant. Person 0 is a superuser, 1 reviews most models, 2 made very
    many requests.
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
    # One entry per grant.
    granted: array[int] = field(default_factory=lambda: array("i"))  # the grant's request
    ends: array[int] = field(default_factory=lambda: array("q"))
    fate: bytearray = field(default_factory=bytearray)
    closed: array[int] = field(default_factory=lambda: array("q"))
    roles: list[list[int]] = field(default_factory=list)  # for each model: its owner, then its reviewers


SUPERUSER, REVIEWER, BUSY = 0, 1, 2  # indexes of people


def is_auto(model: int) -> bool:
    """Return whether policy opens the model's gate."""
    return model % 10 == 7


def has_licence(model: int) -> bool:
    """Return whether each request accepts a licence."""
    return not is_auto(model) and model % 3 != 1


def is_published(model: int) -> bool:
    """Return whether the model has weights; grants of the others wait for them."""
    return model < 10 or model % 10 != 9


def is_listed(model: int) -> bool:
    """Return whether the catalogue shows the model to everyone."""
    return model % 25 != 24


def make_plan(requests: int, *, now: int, seed: int = 1) -> Plan:
    """Return the plan for this many requests."""
    chance = random.Random(seed)
    plan = Plan(Sizes(requests), now)
    plan.roles = [_roles(model, plan.sizes, chance) for model in range(plan.sizes.models)]
    _choose_pairs(plan, chance)
    for number in range(requests):
        _decide(plan, number, chance)
    return plan


def _roles(model: int, sizes: Sizes, chance: random.Random) -> list[int]:
    """Return one owner and up to three reviewers per model; one person reviews three in four models."""
    first = BUSY + 1
    named = [first + model % (sizes.staff - first), *chance.choices(range(first, sizes.staff), k=model % 3)]
    if model % 4 != 3:
        named.append(REVIEWER)
    return list(dict.fromkeys(named))


def _choose_pairs(plan: Plan, chance: random.Random) -> None:
    """Choose who asks for which model, never the same one twice; one person asks for very many."""
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
    """Choose when one request was submitted and how it ended."""
    requests, model = plan.sizes.requests, plan.model[number]
    place = number / requests
    submitted = int(plan.now - DAY - YEARS * (1 - place)) + chance.randrange(60)
    if plan.submitted and submitted <= plan.submitted[-1]:
        submitted = plan.submitted[-1] + (number % 7 == 0)  # some in the same second
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
