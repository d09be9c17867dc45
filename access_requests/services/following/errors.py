"""Why a remote did not do what was asked of it; each text is the end of a sentence for the owner."""

from __future__ import annotations


class FarError(Exception):
    """A call that was not answered as hoped."""


class TokenRefused(FarError):
    """The token is not known there, or may not decide."""


class Limited(FarError):
    """Too many calls; `seconds` says how long to wait, `there` whether the remote said so or our own budget."""

    def __init__(self, why: str, seconds: int, *, there: bool = False) -> None:
        super().__init__(why)
        self.seconds, self.there = seconds, there


class Away(FarError):
    """No answer, or none that makes sense: whether a write arrived is not known."""


class RepositoryGone(FarError):
    """There is no such repository there, or it has another name."""


class NotThere(FarError):
    """A write found no request in a state from which it could be made."""


class Refused(FarError):
    """The write makes no sense to the remote, and never will."""


class Unforeseen(FarError):
    """A fault of ours over what the remote sent; `mark` finds its traceback in the log."""

    def __init__(self, error: BaseException, mark: str) -> None:
        super().__init__(
            f"its answer led to an error that was not foreseen ({type(error).__name__}, marked {mark} in the log)"
        )
        self.mark = mark
