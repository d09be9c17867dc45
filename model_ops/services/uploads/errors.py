"""Refusals of uploads, each with the status that clients know."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from access_requests.errors import NotFound, RuleError


class Stale(RuleError):
    """The branch has moved since the client read it."""

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
    """The content of a named large file has not arrived."""

    code = "NotSent"
    status = 422


class NotTheFile(RuleError):
    """A file does not have the content that its name promises."""

    code = "NotTheFile"
    status = 422


class NoBranch(NotFound):
    code = "RevisionNotFound"


class NoFile(NotFound):
    code = "EntryNotFound"


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Turn a full disk into a refusal of one sentence, and roll back database writes."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoom(
                _("The server's disk is full: ask the operator to free some room, then upload again.")
            ) from error
        raise
