"""Revoke leaked secrets: anyone who finds one may revoke it, and learns nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from access_requests.models import AccessToken, Machine, RefreshToken
from access_requests.services.event_log.append import recorded
from access_requests.services.oauth.machines import lock_machine, sign_out
from access_requests.services.tokens.issuing import end_token, live_tokens, say_of_token, tell_of_end
from access_requests.services.tokens.secret import PATTERN, REFRESH_PREFIX, digest, hint, looks_right

LEAKED = "it was found in a place where others could read it"
LONGEST_PLACE = 500  # characters


class Result(StrEnum):
    """The outcome for a reported secret."""

    REVOKED = "revoked"
    ENDED = "ended before"
    UNKNOWN = "not a token of this portal"


@dataclass(frozen=True)
class Found:
    """A secret that someone found; `place` is where, in the finder's words: an address, a file."""

    secret: str
    place: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer to the finder; `hint` is part of what they sent, so it reveals nothing new."""

    hint: str
    result: Result


def report_tokens(*, found: Sequence[Found]) -> list[Answer]:
    """Revoke each real, live token at once, with an event and an email to its owner that says where it was found.

    Any secret of a signed-in machine, even a refresh token, signs the machine out; otherwise it would get the
    next token.
    """
    digests = {
        one.secret: digest(one.secret)
        for one in found
        if looks_right(one.secret) or looks_right(one.secret, REFRESH_PREFIX)
    }
    tokens = AccessToken.objects.select_related("grant__model", "grant__request", "user").filter(
        digest__in={key for secret, key in digests.items() if not secret.startswith(REFRESH_PREFIX)}
    )
    known = {token.digest: token for token in tokens}
    live = set(live_tokens(tokens).values_list("pk", flat=True))
    refreshes = {
        refresh.digest: refresh
        for refresh in RefreshToken.objects.select_related("machine", "token__user").filter(
            digest__in={key for secret, key in digests.items() if secret.startswith(REFRESH_PREFIX)}
        )
    }
    answers = []
    for one in found:
        key, result = digests.get(one.secret, ""), Result.UNKNOWN
        if token := known.get(key):
            result = _end_token(token, one, live)
        elif refresh := refreshes.get(key):
            result = _end_machine(refresh, one)
        answers.append(Answer(hint(one.secret), result))
    return answers


def _end_machine(refresh: RefreshToken, found: Found) -> Result:
    """Sign out the machine of a refresh token, even if the token was used before."""
    place = plain(found.place)
    with recorded():
        if not lock_machine(refresh.machine_id).is_live():
            return Result.ENDED
        sign_out(machine=refresh.machine, why=LEAKED, place=place)
        tell_of_end(refresh.token, reason=LEAKED, found=place)
    return Result.REVOKED


def _end_token(token: AccessToken, found: Found, live: set[int]) -> Result:
    place = plain(found.place)
    with recorded():
        machine = Machine.objects.filter(refresh_tokens__token=token).first()
        if machine is not None:
            lock_machine(machine.pk)
        if token.pk not in live or not end_token(token, LEAKED):
            return Result.ENDED
        data = {"token": token.pk, "reason": LEAKED} | ({"place": place} if place else {})
        say_of_token("token.revoked", token, by="leak report", data=data)
        tell_of_end(token, reason=LEAKED, found=place)
        if machine is not None:
            sign_out(machine=machine, why=LEAKED)
    live.discard(token.pk)
    return Result.REVOKED


def plain(place: str) -> str:
    """Return the place as one line of visible characters, without any secret."""
    line = " ".join("".join(c if c.isprintable() else " " for c in place).split())
    return PATTERN.sub("gth_...", line)[:LONGEST_PLACE]
