"""Deliver from a bucket: redirect the client to a signed link, for which it needs no other right.

Only large files go this way; for the card, configuration and the like a direct answer saves a round trip.
Until a file's copy is in the bucket, or if no link can be signed, this process sends it.
"""

from __future__ import annotations

from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from model_ops.delivery.headers import content_type, disposition
from model_ops.delivery.ranges import NotSatisfiable, Span, span_of
from model_ops.delivery.ticket import Ticket, begin
from model_ops.enums import DownloadMode
from model_ops.models import RepoFile
from model_ops.services.store import bucket

SLOW_LINE = 250_000  # bytes a second: a link must outlive the slowest transfer of its file
SHORTEST, LONGEST = 3600, 7 * 24 * 3600  # seconds; LONGEST is S3's own limit


def has(file: RepoFile) -> bool:
    """Return whether a whole, checked copy is in the configured bucket."""
    return settings.GATEHOUSE_DELIVERY == "s3" and file.is_lfs and file.blob.bucket == bucket.place()


def answer(request: HttpRequest, file: RepoFile, *, ticket: Ticket) -> HttpResponse | None:
    """Return a 302 to the link, also for HEAD, where clients look for it; None if no link can be signed.

    Raises `Busy` if the download log can't be written.
    """
    seconds = link_seconds(file.blob.size, ticket)
    try:
        link = bucket.link(
            file.blob.sha256,
            seconds=seconds,
            disposition=disposition(file.path),
            content_type=content_type(file.path),
        )
    except bucket.NoLink:
        return None
    span: Span | None = None  # only for the log: the bucket answers the range, even one outside the file
    with suppress(NotSatisfiable):
        span = span_of(request, size=file.blob.size, etag=file.etag)
    begin(file=file, ticket=ticket, span=span, mode=DownloadMode.S3, link_seconds=seconds)
    response = HttpResponse(status=302, content_type="text/plain; charset=utf-8")
    response["Location"] = link
    return response


def link_seconds(size: int, ticket: Ticket) -> int:
    """Return an hour plus the file's time on a slow line; beyond one hour, never longer than the grant."""
    wanted = SHORTEST + size // SLOW_LINE
    if ticket.grant is not None:
        wanted = min(wanted, int((ticket.grant.ends_at - timezone.now()).total_seconds()))
    return max(SHORTEST, min(wanted, LONGEST))
