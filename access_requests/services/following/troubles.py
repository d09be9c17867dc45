"""Record problems with following where the owner sees them: a row for each kind, and an email if one lasts."""

from __future__ import annotations

import hashlib
import logging
import traceback
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from access_requests.access.permissions import people_to_tell
from access_requests.models import FollowedRepo, FollowTrouble
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.following.errors import Unforeseen
from access_requests.services.following.texts import one_line

log = logging.getLogger(__name__)

KEPT = 50  # rows per followed repository, so that a remote with ever-changing answers cannot fill the table
FOR_LONG = timedelta(hours=1)
LONGEST_SENTENCE = 500


def unforeseen(error: Exception, *, what: str) -> Unforeseen:
    """Log the traceback under a mark and return the error to show; the same bug has the same mark each time."""
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f"{frame.filename}:{frame.lineno}" for frame in frames)
    mark = hashlib.sha256(f"{type(error).__name__} {place}".encode()).hexdigest()[:8]
    log.error("%s: %s was not foreseen, marked %s", what, type(error).__name__, mark, exc_info=error)
    return Unforeseen(error, mark)


def note_trouble(followed: FollowedRepo, sentence: str) -> None:
    """Keep the sentence on the followed repository's page; a known one is only counted.

    No text makes this fail.
    """
    text, now = one_line(sentence)[:LONGEST_SENTENCE], timezone.now()
    known = FollowTrouble.objects.filter(followed=followed, sentence=text)
    if known.update(times=F("times") + 1, last_at=now):
        return
    FollowTrouble.objects.get_or_create(followed=followed, sentence=text, defaults={"last_at": now})
    kept = FollowTrouble.objects.filter(followed=followed).values_list("pk", flat=True)[:KEPT]
    FollowTrouble.objects.filter(followed=followed).exclude(pk__in=list(kept)).delete()


def failing(followed: FollowedRepo, problem: str) -> dict[str, Any]:
    """Return what a failure changes on the row, apart from the time of the next poll."""
    return {
        "problem": problem,
        "failures": followed.failures + 1,
        "failing_since": followed.failing_since or timezone.now(),
    }


def after_poll(followed: FollowedRepo, changes: dict[str, Any]) -> None:
    """Keep a failed poll's problem; email the owners when polls have failed for long, and when they work again.

    `followed` is the row as it was before the poll, `changes` what the poll wrote on it.
    """
    if problem := changes.get("problem"):
        note_trouble(followed, str(problem))
    since = changes.get("failing_since", followed.failing_since)
    if since is None and followed.failing_told_at is not None:
        _inform_owners(followed, "recovered", {"since": followed.failing_since})
    elif since is not None and followed.failing_told_at is None and timezone.now() - since >= FOR_LONG:
        _inform_owners(
            followed, "failing", {"since": since, "problem": changes.get("problem", followed.problem)}
        )


def _inform_owners(followed: FollowedRepo, what: str, context: dict[str, Any]) -> None:
    """Write the event, the emails and the note about them in one transaction."""
    now = timezone.now()
    address = reverse("admin:access_requests_followedrepo_change", args=[followed.pk])
    told = FollowedRepo.objects.filter(pk=followed.pk, failing_told_at=followed.failing_told_at)
    with recorded():
        if not told.update(failing_told_at=now if what == "failing" else None):
            return
        append_event(
            kind=f"following.{what}",
            model=followed.model,
            data={"endpoint": followed.endpoint, "repository": followed.far_id},
        )
        for person in people_to_tell(followed.model, owners_only=True):
            queue_mail(
                key=f"following-{what}:{followed.pk}:{now.timestamp()}:{person.pk}",
                to=person.email,
                template=f"mails/following_{what}.txt",
                context={
                    "person": person, "followed": followed, "address": f"{settings.GATEHOUSE_URL}{address}", **context
                },
            )  # fmt: skip


def is_database_away(error: Exception) -> bool:
    """Return whether nothing can be written at all: then the error is not about one entry and is raised."""
    return isinstance(error, OperationalError) and not transaction.get_connection().is_usable()
