"""The errors that services raise: a sentence for the person, a code and a status for a client."""

from __future__ import annotations

from dataclasses import dataclass


class RuleError(Exception):
    """The base class of these errors; `sentence` is shown as it is."""

    code = "refused"
    status = 400

    def __init__(self, sentence: str, *, field: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field


class Invalid(RuleError):
    """The input is not acceptable."""

    code = "invalid"


class NotAllowed(RuleError):
    """This person may not do that."""

    code = "not_allowed"
    status = 403


class NotFound(RuleError):
    code = "not_found"
    status = 404


class Conflict(RuleError):
    """Someone else was faster, or the current state does not allow this any more."""

    code = "conflict"
    status = 409


@dataclass(frozen=True)
class Unavailable:
    """Why the portal cannot answer just now, for API answers and pages. Returned by checks, never raised.

    `sentence` says what happened and whether anything was changed, `advice` what to do. `status` is for APIs. Clients try
    again after `seconds` seconds; 0 where waiting does not help.
    """

    code: str
    sentence: str
    advice: str
    seconds: int
    status: int = 503
