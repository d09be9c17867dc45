"""Errors of calls to a remote. Each text completes a sentence for the owner."""

from __future__ import annotations


class FarError(Exception):
    """A call that failed."""


class TokenRefused(FarError):
    """The remote does not know the token, or the token may not decide."""


class Limited(FarError):
    """Too many calls; `seconds` is the wait, `there` whether the remote required it or our own budget."""

    def __init__(self, why: str, seconds: int, *, there: bool = False) -> None:
        super().__init__(why)
        self.seconds, self.there = seconds, there


class Away(FarError):
    """No answer, or none that makes sense; it is unknown whether a write arrived."""


class RepositoryGone(FarError):
    """There is no such repository there, or it has another name."""


class NotThere(FarError):
    """There is no request that this write could change."""


class Refused(FarError):
    """The remote refuses the write for good."""


class Unforeseen(FarError):
    """A bug in our code while reading an answer; search the log for `mark` to find the traceback."""

    def __init__(self, error: BaseException, mark: str) -> None:
        super().__init__(
            f"its answer led to an error that was not foreseen ({type(error).__name__}, marked {mark} in the log)"
        )
        self.mark = mark
