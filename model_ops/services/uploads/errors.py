"""What only uploads refuse; each with the status that clients know."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from access_requests.errors import NotFound, RuleError


class Stale(RuleError):
    """The branch is not where the client thinks it is."""

    code = "PreconditionFailed"
    status = 412


class TooLarge(RuleError):
    code = "TooLarge"
    status = 413


class NoRoom(RuleError):
    """The disk is full; clients do not try again by themselves."""

    code = "NoRoom"
    status = 507


class NotSent(RuleError):
    """A large file is named whose content has not arrived."""

    code = "NotSent"
    status = 422


class NotTheFile(RuleError):
    """A file is something else than its name promises, and would be published so."""

    code = "NotTheFile"
    status = 422


class NoBranch(NotFound):
    code = "RevisionNotFound"


class NoFile(NotFound):
    code = "EntryNotFound"


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Refuse in one sentence what the disk has no room for; what was written to the database meanwhile is taken back."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoom(
                "The server's disk is full: ask the operator to free some room, then upload again."
            ) from error
        raise
