"""Record who gets the bytes and with which right, for the download log."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from access_requests.models import AccessToken, GatedModel, Grant
from model_ops.delivery.ranges import Span
from model_ops.enums import DownloadMode
from model_ops.models import RepoFile
from model_ops.services.downloads import journal
from model_ops.services.downloads.in_flight import Right

if TYPE_CHECKING:
    from portal.accounts.models import User

log = logging.getLogger(__name__)

RETRY_AFTER = 30  # seconds; clients try five times


class Damaged(Exception):
    """The blob is missing from the store, or incomplete."""


class Busy(Exception):
    """No further transfer can start now; `sentence` says why."""

    seconds = RETRY_AFTER

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class Ticket:
    """Who gets the bytes, and with which right. `open`: no right is needed, as for the card and licences."""

    model: GatedModel
    commit: str
    user: User | None = None
    token: AccessToken | None = None
    grant: Grant | None = None
    address: str | None = None
    client: str = ""
    open: bool = False

    @property
    def right(self) -> Right:
        return Right(
            model_id=self.model.pk,
            token_id=self.token.pk if self.token else None,
            open=self.open,
        )

    @property
    def person(self) -> str:
        """Return the key for counting bodies: the person, or the address if no one is signed in."""
        return f"user-{self.user.pk}" if self.user else f"address-{self.address}"


def begin(
    *, file: RepoFile, ticket: Ticket, span: Span | None, mode: DownloadMode, link_seconds: int | None = None
) -> str:
    """Log a body before its first byte, and return the id under which its end is logged.

    Raises `Busy` if the log can't be written: nothing is sent without being logged.
    """
    link = link_seconds is not None
    entry = journal.Begun(
        request_id=uuid.uuid4().hex,
        model_id=ticket.model.pk,
        grant_id=ticket.grant.pk if ticket.grant else None,
        token_id=ticket.token.pk if ticket.token else None,
        user_id=ticket.user.pk if ticket.user else None,
        commit=ticket.commit,
        path=file.path,
        first_byte=span.first if span else 0,
        bytes_asked=span.length if span else file.blob.size,
        status=HTTPStatus.FOUND if link else HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK,
        address=ticket.address,
        client=ticket.client,
        mode=mode,
        started_at=timezone.now(),
        link_seconds=link_seconds,
    )
    try:
        journal.begin(entry)
    except journal.NotLogged as error:
        raise Busy(
            "The download log cannot be written at the moment, and no file is sent without being logged:"
        ) from error
    return entry.request_id


def whole_blob(file: RepoFile) -> Path:
    """Return the path of the content; raise `Damaged` if it is missing or its size is wrong."""
    path = Path(settings.WEIGHTS_ROOT) / file.blob.location
    try:
        size = path.stat().st_size
    except OSError as error:
        log.error("The content of %s is not in the store: %s", file.path, error)  # noqa: TRY400 - no traceback to read
        raise Damaged(file.path) from error
    if size != file.blob.size:
        log.error(
            "The content of %s has %d bytes in the store instead of %d: %s",
            file.path,
            size,
            file.blob.size,
            path,
        )
        raise Damaged(file.path)
    return path
