"""Limits on guessing passwords and codes. A stranger's wrong guesses never lock the account's owner out.

Wrong guesses are counted for each address, for each pair of account and address, and for each account. The
last limit is much larger than the others. Beyond it, a guess counts only from a browser or an address where
the person has signed in before, so that many addresses together cannot continue guessing; a reset link works
in any case. Counts are in the cache: while it is down, nobody is locked out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from access_requests.addresses import whole_network
from access_requests.services.oauth.errors import TooMany
from access_requests.services.oauth.limits import Limit, forget, give_back, spend
from portal.accounts.models import User

FROM_ADDRESS = Limit("wrong-address", 10, 60, "too_many_login_attempts")
HERE = Limit("wrong-here", 5, 300, "too_many_login_attempts")
ANYWHERE = Limit("wrong-anywhere", 100, 3600, "too_many_from_elsewhere")

COOKIE = "gatehouse_browser"
COOKIE_SALT = "gatehouse.known-browser"
COOKIE_AGE = 180 * 24 * 3600  # seconds


@dataclass(frozen=True)
class Guess:
    """One guess at an account's secret.

    `account` is the address typed, or `factor:PK` for codes of a second factor.
    """

    account: str
    address: str

    @property
    def here(self) -> str:
        """Return the key that counts guesses at this account from this address."""
        return f"{self.account}|{self.address}"


def begin_guess(guess: Guess, *, known: Callable[[], bool]) -> None:
    """Count one guess before it is checked, so that simultaneous guesses cannot slip through together.

    `known` returns whether the guess comes from where the person signed in before; it is called only beyond
    the limit of the account as a whole. Raises `TooMany`; its sentence is the name of an error message of the
    account adapter.
    """
    spend(FROM_ADDRESS, guess.address)
    spend(HERE, guess.here)
    try:
        spend(ANYWHERE, guess.account)
    except TooMany:
        if not known():
            raise


def right_guess(guess: Guess) -> None:
    """Take back the count of a correct guess.

    Wrong guesses stay counted, or signing in to another account would erase them.
    """
    give_back(FROM_ADDRESS, guess.address)
    give_back(HERE, guess.here)
    give_back(ANYWHERE, guess.account)


def forget_guesses(guess: Guess) -> None:
    """Forget the wrong guesses at an account after its password was reset through an emailed link."""
    forget(HERE, guess.here)
    forget(ANYWHERE, guess.account)


def signed_in_here_before(request: HttpRequest, user: User | None, *, address: str) -> bool:
    """Return whether this browser, or this network in a live session, signed in to this account before."""
    if user is None:
        return False
    if user.pk in _people_of(request):
        return True
    sessions = UserSession.objects.filter(user=user).values_list("ip", flat=True)
    return any(whole_network(ip) == whole_network(address) for ip in sessions)


def remember_browser(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Set a signed cookie that says who signed in.

    It gives no access; it only lifts the account's limit on guesses.
    """
    people = [pk for pk in _people_of(request) if pk != user.pk][-4:]
    response.set_cookie(
        COOKIE,
        signing.dumps([*people, user.pk], salt=COOKIE_SALT),
        max_age=COOKIE_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _people_of(request: HttpRequest) -> list[int]:
    try:
        people = signing.loads(request.COOKIES.get(COOKIE, ""), salt=COOKIE_SALT, max_age=COOKIE_AGE)
    except signing.BadSignature:
        return []
    return [pk for pk in people if isinstance(pk, int)] if isinstance(people, list) else []
