"""The rows of people: accounts, addresses, second factors of staff, live and ended sessions."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any

import psycopg
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session

from portal.accounts.models import User
from tests.bench.scale.clock import DAY, moment
from tests.bench.scale.copying import copy_rows, next_id
from tests.bench.scale.plan import BUSY, SUPERUSER, Plan
from tests.bench.scale.words import country_of, institution_of, name_of

HANDLES = (
    "ada",
    "li.wei",
    "minsu",
    "olga",
    "fatima",
    "yuki",
    "jose",
    "grace",
    "chen",
    "nils",
    "priya",
    "tom-",
    "zoe_",
)
HASH = "pbkdf2_sha256$1200000${}${}"
LETTERS = string.ascii_letters + string.digits
CLIENT = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def username_of(number: int) -> str:
    """Return the user name of the person with this number."""
    return f"{HANDLES[number % len(HANDLES)]}{number}"


def address_of(number: int) -> str:
    """Return the email address of the person with this number."""
    return f"{username_of(number)}@institute{number % 400}.example"


def copy_people(owner: psycopg.Connection[Any], plan: Plan, first_user: int) -> dict[str, int]:
    """Write every account with its address, and a second factor for staff."""
    people = plan.sizes.people
    joined = [plan.now - 4 * 365 * DAY + number * 3 * 365 * DAY // people for number in range(people)]
    addresses = [address_of(number) for number in range(people)]
    users = copy_rows(
        owner, User,
        ("id", "password", "is_superuser", "email", "username", "first_name", "last_name", "institution", "country", "date_joined"),
        (
            (
                first_user + n, HASH.format(f"{n:022}", f"{n:043}"), n == SUPERUSER, addresses[n], username_of(n), *name_of(n),
                institution_of(n), country_of(n), moment(joined[n]),
            )
            for n in range(people)
        ),
    )  # fmt: skip
    first = next_id(owner, EmailAddress)
    copy_rows(
        owner, EmailAddress, ("id", "user_id", "email", "verified", "primary"),
        ((first + n, first_user + n, addresses[n], True, True) for n in range(people)),
    )  # fmt: skip
    first = next_id(owner, Authenticator)
    staff = [n for n in range(plan.sizes.staff) if n != BUSY]
    copy_rows(
        owner, Authenticator, ("id", "user_id", "type", "data"),
        ((first + n, first_user + n, Authenticator.Type.TOTP.value, {}) for n in staff),
    )  # fmt: skip
    return {"people": users}


def copy_sessions(owner: psycopg.Connection[Any], plan: Plan, first_user: int) -> dict[str, int]:
    """Write a session for each person, nine in ten of them ended; each has allauth's row as well."""
    chance = random.Random(3)
    rows = list(_sessions(plan, chance))
    body = "".join(chance.choices(LETTERS, k=4000))
    count = copy_rows(
        owner, Session, ("session_key", "session_data", "expire_date"),
        ((key, f"{body[n % 3700 : n % 3700 + 260]}:1vP{n:06x}:{key}", moment(ends)) for n, key, ends in rows),
    )  # fmt: skip
    first = next_id(owner, UserSession)
    copy_rows(
        owner, UserSession,
        ("id", "user_id", "session_key", "ip", "user_agent", "created_at", "last_seen_at"),
        (
            (first + n, first_user + n, key, f"192.0.2.{n % 250}", CLIENT, moment(ends - 14 * DAY), moment(ends - 13 * DAY))
            for n, key, ends in rows
        ),
    )  # fmt: skip
    return {"sessions": count}


def _sessions(plan: Plan, chance: random.Random) -> Iterator[tuple[int, str, int]]:
    for number in range(plan.sizes.people):
        lives = number % 10 == 0
        ends = (
            plan.now + chance.randrange(DAY, 14 * DAY)
            if lives
            else plan.now - chance.randrange(60, 700 * DAY)
        )
        yield number, "".join(chance.choices(LETTERS, k=32)).lower(), ends
