"""Poll the lists of followed repositories on a schedule."""

from __future__ import annotations

import logging
import random
import time
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import IntegrityError
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from access_requests.enums import FarStatus, FollowState
from access_requests.errors import RuleError
from access_requests.models import FollowedRepo, RemoteRequest
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.following import budget
from access_requests.services.following.client import (
    LISTS,
    Away,
    FarClient,
    FarError,
    Limited,
    RepositoryGone,
    TokenRefused,
)
from access_requests.services.following.credentials import token_for, token_mark, token_setting
from access_requests.services.following.drift import LAG, drifts, lock_remote, status_here, with_standing
from access_requests.services.following.importing import (
    has_open_request,
    import_again,
    import_request,
    update_person,
)
from access_requests.services.following.noticing import Notice
from access_requests.services.following.reading import FarItem
from access_requests.services.following.troubles import (
    after_poll,
    failing,
    is_database_away,
    note_trouble,
    unforeseen,
)
from access_requests.services.leases import FREE, Lost, claim, is_free, renew
from access_requests.services.locks import lock_person

log = logging.getLogger(__name__)

POLLED = (FollowState.FOLLOWING, FollowState.REFUSED)
LONGEST_PAUSE = timedelta(hours=1)
LOOK_FOR_TOKEN = timedelta(seconds=60)
LONGEST_TAKING = 600.0  # seconds per poll for importing entries: shorter than the task's time limit
MOST_REASONS = 10  # reasons for skipped entries that one poll keeps
DEATHS = 2  # workers that may die while polling a repository before that counts as a failed poll
MISSED = 2  # polls in a row without a person before they count as gone, since entries move between lists
SEEN_AT_ONCE = 500  # rows of one UPDATE; a decision about one of them waits until it ends
NOTED = ["far_status", "far_asked_at", "far_fields", "far_request_id", "missed", "drifted_at"]
Seen = dict[FarStatus, list[FarItem]]


def due() -> QuerySet[FollowedRepo]:
    """Return what is due to be polled and not claimed."""
    return FollowedRepo.objects.filter(is_free(), state__in=POLLED, next_poll_at__lte=Now())


def poll(*, followed_id: int, longest: float = LONGEST_TAKING) -> bool:
    """Poll the lists once if that is due and no one else does it; return whether they were polled.

    Whatever the remote sends, the row records the outcome: no failure is only in the log. Entries that are not
    imported after `longest` seconds are imported by the next poll, which runs at once.
    """
    died = FollowedRepo.objects.filter(pk=followed_id, lease_until__lt=Now()).exists()
    owner = claim(due().filter(pk=followed_id))
    if not owner:
        return False
    held = FollowedRepo.objects.filter(pk=followed_id, lease_owner=owner)
    followed = held.select_related("model__form").first()
    if followed is None:  # paused or ended just now
        return False
    try:
        changes = (_after_death(followed, held) if died else None) or _poll_lists(followed, held, longest)
    except Lost:
        return False
    except Exception as error:
        if is_database_away(error):
            raise
        changes = _changes_after_failure(followed, unforeseen(error, what=str(followed)))
    written = held.update(**FREE, **changes)
    if written:
        after_poll(followed, changes)
    return bool(written)


def _after_death(followed: FollowedRepo, held: QuerySet[FollowedRepo]) -> dict[str, Any] | None:
    """Record that a worker died during this poll; after too many, return what to write instead of polling."""
    changes = _changes_after_failure(followed, Away("the worker that polled was stopped before it was done"))
    if followed.failures >= DEATHS:
        return changes
    note_trouble(followed, str(changes["problem"]))
    kept = {name: changes[name] for name in ("failures", "failing_since")}
    renew(held, **kept)
    for name, value in kept.items():
        setattr(followed, name, value)
    return None


def _poll_lists(followed: FollowedRepo, held: QuerySet[FollowedRepo], longest: float) -> dict[str, Any]:
    """Poll, and return what to write on the row: when to poll again, and what went wrong."""
    token, now = token_for(followed.endpoint), timezone.now()
    if followed.state == FollowState.REFUSED and followed.refused_token == token_mark(token):
        return {"next_poll_at": now + LOOK_FOR_TOKEN}
    if not token:
        setting = token_setting(followed.endpoint)
        problem = f"There is no token for {followed.host}: set {setting} and restart the portal."
        return refused(followed, token, problem)
    if followed.model.form is None:
        problem = f"{followed.model} has no form here, so no request can be shown: give it a card."
        return refused(followed, token, problem)
    try:
        seen, unread = Seen(), 0
        with client_for(followed, token, urgent=False, before=partial(renew, held)) as client:
            for status in LISTS:
                entries = list(client.entries(status))
                seen[status] = [entry for entry in entries if entry is not None]
                unread += len(entries) - len(seen[status])
        if unread:
            note_trouble(followed, "Some entries were left out because they name no one.")
        failed, whole = _take_in_lists(followed, held, seen, started=now, longest=longest)
    except TokenRefused as error:
        return refused(followed, token, lost_right(followed, str(error)))
    except FarError as error:
        return _changes_after_failure(followed, error)
    pause = followed.poll_every * random.uniform(1, 1.1) if whole else 0  # noqa: S311 - spreads polls that began together
    return {
        "state": FollowState.FOLLOWING,
        "problem": "",
        "refused_token": "",
        "failures": 0,
        "failing_since": None,
        "unread": unread + failed,
        "polled_at": timezone.now(),
        "next_poll_at": timezone.now() + timedelta(seconds=pause),
    }


def lost_right(followed: FollowedRepo, said: str) -> str:
    """Return the sentence about a token that may no longer decide."""
    name = token_setting(followed.endpoint)
    return (
        f"{followed.host} does not let our token decide about {followed.far_id} ({said}): give {name} a token "
        "with write access to it and restart the portal, or fix its rights there and press “Ask now”."
    )


def refused(followed: FollowedRepo, token: str, problem: str) -> dict[str, Any]:
    """Return what to write to stop polls and reports until there is another token."""
    log.warning("%s: %s", followed, problem)
    return {
        "state": FollowState.REFUSED,
        **failing(followed, problem),
        "refused_token": token_mark(token),
        "next_poll_at": timezone.now() + LOOK_FOR_TOKEN,
    }


def _changes_after_failure(followed: FollowedRepo, error: FarError) -> dict[str, Any]:
    """Return what a failed poll writes: the problem, and a pause that grows with the failures, or is as long as required."""
    if isinstance(error, Limited):
        pause = timedelta(seconds=error.seconds + random.uniform(0, 5))  # noqa: S311 - spreads polls
        problem = f"{followed.host} could not be asked: {error}. We will try again when it allows."
        # Our own used-up budget is not a failure of the remote.
        failed = failing(followed, problem) if error.there else {}
        return {**failed, "next_poll_at": timezone.now() + pause}
    log.warning("%s: %s", followed, error)
    pause = min(timedelta(seconds=followed.poll_every) * 2 ** min(followed.failures, 10), LONGEST_PAUSE)
    if isinstance(error, RepositoryGone):
        problem = (
            f"{followed.host} has no {followed.far_id} for us: {error}. We keep trying from time to time."
        )
        pause = LONGEST_PAUSE
    else:
        problem = f"{followed.host} could not be asked: {error}. We try again."
    return {**failing(followed, problem), "next_poll_at": timezone.now() + pause}


def client_for(followed: FollowedRepo, token: str, *, urgent: bool, before: partial[None]) -> FarClient:
    """Return a client for the remote with its budget; `before` runs ahead of each call, for example to renew a lease."""

    def spend() -> None:
        before()
        budget.spend(followed.endpoint, urgent=urgent)

    return FarClient(
        endpoint=followed.endpoint,
        far_id=followed.far_id,
        token=token,
        spend=spend,
        closed=partial(budget.close, followed.endpoint),
    )


class _Known:
    """The rows here, indexed by what an entry says about its person."""

    def __init__(self, followed: FollowedRepo) -> None:
        self.rows = {row.pk: row for row in with_standing(followed.remote_requests.all())}
        self._by_request = {row.far_request_id: row for row in self.rows.values() if row.far_request_id}
        self._by_user = {row.person.far_user_id: row for row in self.rows.values() if row.person.far_user_id}
        self._by_name = {row.person.name.lower(): row for row in self.rows.values() if row.person.name}

    def find(self, item: FarItem) -> RemoteRequest | None:
        """Find a row by the request's id, else the person's id, else their name there, unless their ids differ."""
        found = self._by_request.get(item.request_id) or self._by_user.get(item.user_id)
        if found is None and (named := self._by_name.get(item.name.lower())):
            ids = {item.user_id, named.person.far_user_id} - {""}
            found = named if len(ids) < 2 else None
        return found

    def sort(self, seen: Seen) -> tuple[dict[int, FarItem], list[FarItem]]:
        """Return what was seen of each row, and pending entries without one.

        If an entry moved, the later one counts.
        """
        entries: dict[int, FarItem] = {}
        new: list[FarItem] = []
        for status in LISTS:
            for item in seen[status]:
                if row := self.find(item):
                    entries[row.pk] = item
                elif status == FarStatus.PENDING:
                    new.append(item)
        return entries, new


def _take_in_lists(
    followed: FollowedRepo, held: QuerySet[FollowedRepo], seen: Seen, *, started: datetime, longest: float
) -> tuple[int, bool]:
    """Import what was seen; return how many entries failed, and whether the import is complete."""
    known = _Known(followed)
    entries, new = known.sort(seen)
    steps = [partial(import_request, followed=followed, item=item) for item in new]
    steps += [
        partial(_compare_row, row, entries.get(pk), started)
        for pk, row in known.rows.items()
        if not _is_unchanged(row, entries.get(pk))
    ]
    notice, ends, left_out, done = Notice(followed), time.monotonic() + longest, list[str](), 0
    try:
        for step in steps:
            if why := _take_in_entry(step, followed, held, notice):
                left_out.append(why)
            done += 1
            if time.monotonic() > ends:
                break
    finally:
        notice.send()
    for why in list(dict.fromkeys(left_out))[:MOST_REASONS]:
        note_trouble(followed, f"An entry was left out: {why}")
    rows = sorted(entries)
    # In short statements, since decisions wait for the rows that a statement changes.
    for start in range(0, len(rows), SEEN_AT_ONCE):
        some = RemoteRequest.objects.filter(pk__in=rows[start : start + SEEN_AT_ONCE])
        some.update(seen_at=timezone.now())
    return len(left_out), done == len(steps)


def _take_in_entry(
    step: partial[RemoteRequest | None],
    followed: FollowedRepo,
    held: QuerySet[FollowedRepo],
    notice: Notice,
) -> str:
    """Import one entry in its own transaction: a new request and its email are both written, or neither.

    Return why it was skipped, "" if it was not.
    """
    renew(held)
    try:
        with recorded():
            remote = step()
            if remote:
                notice.write(remote)
    except RuleError as error:
        log.warning("%s: an entry was left out: %s", followed, error)
        return error.sentence
    except IntegrityError as error:
        log.warning("%s: an entry was left out: %s", followed, error)
        return "it contradicts another one, such as two people under one request id."
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        if is_database_away(error):
            raise
        return str(unforeseen(error, what=f"{followed}, an entry"))
    if remote:
        notice.keep()
    return ""


def _is_unchanged(row: RemoteRequest, item: FarItem | None) -> bool:
    """Return whether there is nothing to write, as for most rows; then no lock is taken."""
    if (row.drifted_at is not None) != drifts(row):
        return False
    if item is None:
        return row.far_status == FarStatus.MISSING
    if row.missed:
        return False
    pairs = (
        (item.status, row.far_status),
        (item.asked_at, row.far_asked_at),
        (item.fields, row.far_fields),
        (item.request_id, row.far_request_id),
        (item.name, row.person.name),
        (item.user_id, row.person.far_user_id),
        (item.full_name, row.person.full_name),
        (item.email, row.person.email),
    )
    return all(not now or now == known for now, known in pairs)


def _compare_row(known: RemoteRequest, item: FarItem | None, started: datetime) -> RemoteRequest | None:
    """Compare one row with what was seen of it, under the lock that decisions take; import a new request if there is one."""
    with recorded():
        lock_person(known.person.user_id)
        row = with_standing(RemoteRequest.objects.filter(pk=lock_remote(known.pk).pk)).get()
        # Its lists may show an old state, because we wrote there recently or are about to write.
        if row.wrote_at is not None and row.wrote_at > started - LAG:
            return None
        closed = status_here(row) in {FarStatus.REJECTED, FarStatus.RESET, FarStatus.MISSING}
        if item and closed and item.status == FarStatus.PENDING and not row.telling:  # type: ignore[attr-defined]
            # Closed here without access: has the person asked again there since?
            newer = item.asked_at is not None and item.asked_at > row.answered_at
            if newer and not has_open_request(row.person.user, row.followed):
                return import_again(remote=row, item=item)
        _record_observed(row, item)
        return None


def _record_observed(row: RemoteRequest, item: FarItem | None) -> None:
    """Record what the remote says now. Nothing here changes because of it: a difference is only shown."""
    was, before = row.far_status, _noted_values(row)
    row.missed = 0 if item else min(row.missed + 1, MISSED)
    if item:
        row.far_status = item.status
        row.far_asked_at = item.asked_at or row.far_asked_at
        row.far_fields = item.fields or row.far_fields
        row.far_request_id = item.request_id or row.far_request_id
    elif row.missed >= MISSED:
        row.far_status = FarStatus.MISSING
    row.drifted_at = (row.drifted_at or timezone.now()) if drifts(row) else None
    if item is not None:
        name = row.person.name
        update_person(row.person, item)
        if name != row.person.name:
            append_event(
                kind="remote.renamed",
                by=row.followed.host,
                model=row.followed.model,
                request=row.request,
                data={"was": name, "is": row.person.name},
            )
    if before == _noted_values(row):
        return
    row.save(update_fields=NOTED)
    if was != row.far_status:
        append_event(
            kind="remote.changed",
            by=row.followed.host,
            model=row.followed.model,
            request=row.request,
            data={"was": str(was), "is": str(row.far_status), "here": str(status_here(row))},
        )


def _noted_values(row: RemoteRequest) -> list[object]:
    return [getattr(row, name) for name in NOTED]
