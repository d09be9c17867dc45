"""Interpret the mail server's answers, and pause all emails while it fails.

The pause is a row of the database, so that every process knows of it, with or without Valkey. A failure of
the server pauses everything; after the pause one email is tried, and if it succeeds, the pause ends. A
refusal of one recipient concerns only that email.
"""

from __future__ import annotations

import smtplib
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from django.db.models import F
from django.db.models.functions import Now

from access_requests.models import MailServer

FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=5)
TRIAL = timedelta(
    minutes=2
)  # longer than one email may take: if a process dies during its trial, others continue after this
WANTS_SIGN_IN = (530, 534, 535, 538)


class Blame(Enum):
    """What failed: the server, this email for now, or this email for good."""

    SERVER = auto()
    LATER = auto()
    NEVER = auto()


@dataclass(frozen=True)
class Verdict:
    """The meaning of an error, and the server's own message."""

    blame: Blame
    sentence: str


class Unreachable(Exception):
    """The mail server cannot be used: it refuses, is silent, or rejects the sign-in. The cause says why."""


def judge(error: Exception) -> Verdict:
    """Return what an error from sending one email means."""
    if isinstance(error, Unreachable):
        return Verdict(Blame.SERVER, _server_message(error.__cause__ or error))
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, answer = next(iter(error.recipients.values()))
        text = _one_line(answer)
        # 5.7 is a policy, such as a relay that does not know us yet; other 5xx say that the address is wrong.
        wrong = code >= 500 and not text.startswith("5.7.")
        blame = _system_blame(code, text) or (Blame.NEVER if wrong else Blame.LATER)
        return Verdict(blame, f"{code} {text}")
    if isinstance(error, smtplib.SMTPSenderRefused):  # all emails have the same sender, but not the same size
        return Verdict(Blame.NEVER if error.smtp_code == 552 else Blame.SERVER, _server_message(error))
    if isinstance(error, smtplib.SMTPDataError):
        temporary = _system_blame(error.smtp_code, _one_line(error.smtp_error))
        blame = temporary or (Blame.NEVER if error.smtp_code >= 500 else Blame.LATER)
        return Verdict(blame, _server_message(error))
    if isinstance(error, smtplib.SMTPNotSupportedError | ValueError):
        return Verdict(Blame.NEVER, _server_message(error))
    return Verdict(Blame.SERVER if isinstance(error, OSError) else Blame.LATER, _server_message(error))


def _system_blame(code: int, text: str) -> Blame | None:
    """Return whether the server is at fault: it closes, has trouble (4.3, RFC 3463), or wants a sign-in."""
    if code == 421 or code in WANTS_SIGN_IN or (code < 500 and text.startswith("4.3.")):
        return Blame.SERVER
    return None


def _server_message(error: BaseException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_one_line(error.smtp_error)}"
    return f"{type(error).__name__}: {error}"


def _one_line(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:900]


def outage() -> MailServer | None:
    """Return since when and how the server has been failing; None while it answers."""
    return MailServer.objects.filter(pk=MailServer.ROW, failures__gt=0).first()


def take_turn() -> int | None:
    """Return how many times in a row the server has failed (0: it answers) if an email may be tried now, else None.

    When a pause is over, only one process gets the turn. It reports with `note_failure`, `note_answer` or
    `give_back`.
    """
    failing = outage()
    if failing is None:
        return 0
    over = MailServer.objects.filter(pk=failing.pk, failures=failing.failures, paused_until__lte=Now())
    return failing.failures if over.update(paused_until=Now() + TRIAL) else None


def note_failure(*, seen: int, sentence: str) -> timedelta:
    """Pause all emails; return for how long.

    `seen` is what `take_turn` returned: two failures at once count once.
    """
    pause: timedelta = min(FIRST_PAUSE * 2 ** min(seen, 20), LONGEST_PAUSE)
    MailServer.objects.bulk_create([MailServer(pk=MailServer.ROW)], ignore_conflicts=True)
    MailServer.objects.filter(pk=MailServer.ROW, failures=seen).update(
        failures=seen + 1,
        failing_since=F("failing_since") if seen else Now(),
        paused_until=Now() + pause,
        last_error=sentence[:1000],
    )
    return pause


def note_answer(*, seen: int) -> None:
    """End the pause: the server has accepted an email, or refused one for a reason of its own."""
    if seen:
        MailServer.objects.filter(pk=MailServer.ROW).update(
            failures=0, failing_since=None, paused_until=None, last_error=""
        )


def give_back(*, seen: int) -> None:
    """Give the turn to another process, because there was nothing to try."""
    if seen:
        MailServer.objects.filter(pk=MailServer.ROW, failures=seen).update(paused_until=Now())
