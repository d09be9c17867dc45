"""Limit attempts, counted in the cache; while the cache is down, no one is blocked."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from access_requests import counters
from access_requests.addresses import whole_network
from access_requests.services.oauth.errors import TooMany


@dataclass(frozen=True)
class Limit:
    """At most `most` attempts in `seconds`, counted from the first one."""

    name: str
    most: int
    seconds: int
    sentence: str


WRONG_CODES_OF_PERSON = Limit(
    "code-person",
    10,
    900,
    gettext_noop("Too many wrong codes: wait a quarter of an hour, then start again in the terminal."),
)
WRONG_CODES_OF_ADDRESS = Limit(
    "code-address",
    30,
    900,
    gettext_noop("Too many wrong codes from this address: wait a quarter of an hour."),
)
# Only API clients see the next two.
SIGN_INS_OF_ADDRESS = Limit(
    "sign-ins", 60, 900, "Too many sign-ins were begun from this address: wait a quarter of an hour."
)
FAILED_EXCHANGES_OF_ADDRESS = Limit(
    "exchanges", 60, 900, "Too many refused exchanges from this address: wait a quarter of an hour."
)


def spend(limit: Limit, who: object) -> None:
    """Count one attempt. Raises `TooMany`."""
    if (counters.count(_counter_key(limit, who), seconds=limit.seconds) or 0) > limit.most:
        raise TooMany(_(limit.sentence), seconds=limit.seconds)


def give_back(limit: Limit, who: object) -> None:
    """Count one attempt less, because it succeeded."""
    counters.take_back(_counter_key(limit, who))


def forget(limit: Limit, who: object) -> None:
    """Start counting from zero."""
    counters.forget(_counter_key(limit, who))


def _counter_key(limit: Limit, who: object) -> str:
    return f"oauth:{limit.name}:{whole_network(str(who))}"
