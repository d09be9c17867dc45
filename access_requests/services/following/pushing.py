"""Report one decision to the remote, once: look before writing, and after a write without an answer."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from access_requests.enums import FarStatus, FollowState, PushState
from access_requests.models import RemotePerson, RemotePush, RemoteRequest
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.following.client import (
    LISTS,
    Away,
    FarClient,
    FarError,
    Limited,
    NotThere,
    Refused,
    TokenRefused,
)
from access_requests.services.following.credentials import token_for
from access_requests.services.following.drift import LAG, lock_remote, settle, unheard
from access_requests.services.following.polling import client_for, lost_right, refused
from access_requests.services.following.reading import FarItem
from access_requests.services.following.troubles import is_database_away, note_trouble, unforeseen
from access_requests.services.leases import FREE, Lost, claim, renew

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 40  # with the pauses below, about a day and a half
FIRST_PAUSE = timedelta(seconds=3)
LONGEST_PAUSE = timedelta(hours=1)
# After this many seconds without an answer, nothing is reported to that endpoint for a while.
SLOW, LEFT_ALONE = 5.0, timedelta(minutes=1)


class Drifted(FarError):
    """Someone else changed the state on the remote in the meantime; it is not overwritten."""


class Later(FarError):
    """The remote's lists may still lag behind our own last write."""


def due() -> QuerySet[RemotePush]:
    """Return pushes that are due: not claimed, and without an older push for the same person."""
    free = Q(state=PushState.DUE, next_try_at__lte=Now()) | Q(state=PushState.CLAIMED, lease_until__lt=Now())
    older = RemotePush.objects.filter(
        remote=OuterRef("remote"), pk__lt=OuterRef("pk"), state=PushState.CLAIMED
    )
    return RemotePush.objects.filter(free, ~Exists(older), remote__followed__state=FollowState.FOLLOWING)


def push(*, push_id: int) -> bool:
    """Report one decision if that is due and no one else does it; return whether the remote has that state now.

    Whatever the remote sends, the row records the outcome.
    """
    owner = claim(due().filter(pk=push_id), state=PushState.CLAIMED, attempts=F("attempts") + 1)
    if not owner:
        return False
    held = RemotePush.objects.filter(pk=push_id, state=PushState.CLAIMED, lease_owner=owner)
    row = held.select_related("remote__followed__model", "remote__person", "remote__request").get()
    if _newer_pushes(row).exists():  # its worker died, and the push is outdated
        _make_due_again(row, held, timedelta(0))
        return False
    if row.attempts > MOST_ATTEMPTS:  # each of these attempts ended because its worker died
        _record_failure(row, held, Away("the worker that reported it was stopped before it was done"))
        return False
    began = time.monotonic()
    try:
        _report_state(row, held)
        return _record_success(row, held)
    except Lost:
        return False
    except FarError as error:
        _record_failure(row, held, error)
        if isinstance(error, Away) and time.monotonic() - began > SLOW:
            # Postpone other pushes there: each would block a worker for as long, and other remotes would wait.
            until, endpoint = timezone.now() + LEFT_ALONE, row.remote.followed.endpoint
            waiting = RemotePush.objects.filter(state=PushState.DUE, next_try_at__lt=until)
            waiting.filter(remote__followed__endpoint=endpoint).update(next_try_at=until)
    except Exception as error:
        if is_database_away(error):
            raise
        _record_failure(row, held, unforeseen(error, what=str(row)))
    return False


def _report_state(row: RemotePush, held: QuerySet[RemotePush]) -> None:
    """Write the state unless the remote already has it: a worker may have died after writing it."""
    followed = row.remote.followed
    token = token_for(followed.endpoint)
    if not token:
        raise TokenRefused("there is no token for it")
    with client_for(followed, token, urgent=True, before=partial(renew, held)) as client:
        found, item = _find_entry(client, row)
        if found == row.status:
            return
        # The states that may be replaced: the known one, and those that our unanswered writes may have set.
        earlier = unheard(row.remote).filter(pk__lt=row.pk)
        ours = {row.expects, *(str(value) for push in earlier for value in (push.expects, push.status))}
        if found not in ours:
            wrote = row.remote.wrote_at
            if wrote is not None and wrote > timezone.now() - LAG:
                raise Later(f"it still says {found.value}")
            if found == FarStatus.MISSING:
                raise Drifted(f"{row.remote.person} is in none of its lists any more")
            raise Drifted(f"someone changed it to {found.value} there, but we expected {row.expects}")
        RemoteRequest.objects.filter(pk=row.remote_id).update(wrote_at=timezone.now())
        try:
            if item is not None:
                client.handle(
                    name=item.name, request_id=item.request_id, status=FarStatus(row.status), words=row.words
                )
            elif row.status == FarStatus.ACCEPTED and row.remote.person.name:
                client.grant(name=row.remote.person.name)
            else:
                raise Refused(
                    "no one with that name has a request there any more, so there is nothing to decide"
                )
        except NotThere as error:  # it already has that state, or it disappeared after we looked
            if _find_entry(client, row)[0] != row.status:
                raise Later(str(error)) from error


def _find_entry(client: FarClient, row: RemotePush) -> tuple[FarStatus, FarItem | None]:
    """Return the list that the person is in now, and the entry; likely lists are searched first.

    First by name, which is one short page; then through whole lists, in case the person has a new name.
    """
    person, request_id = row.remote.person, row.remote.far_request_id
    likely = [FarStatus(row.expects), FarStatus(row.status), *LISTS]
    names = [person.name] if person.name else []
    if request_id or person.far_user_id:
        names.append("")
    for name in names:
        for status in dict.fromkeys(status for status in likely if status in LISTS):
            for item in client.entries(status, name=name):
                if item is not None and _is_same(item, person, request_id):
                    return status, item
    return FarStatus.MISSING, None


def _is_same(item: FarItem, person: RemotePerson, request_id: str) -> bool:
    if request_id and item.request_id == request_id:
        return True
    if person.far_user_id and item.user_id:
        return item.user_id == person.far_user_id
    return bool(person.name) and item.name.lower() == person.name.lower()


def _record_success(row: RemotePush, held: QuerySet[RemotePush]) -> bool:
    """Write row, remote state and event in one transaction; do nothing if another worker has the row."""
    now = timezone.now()
    with recorded():
        lock_remote(row.remote_id)
        if not held.update(state=PushState.DONE, done_at=now, last_error="", **FREE):
            return False
        RemoteRequest.objects.filter(pk=row.remote_id).update(far_status=row.status, wrote_at=now, missed=0)
        append_event(
            kind="remote.told",
            by=row.actor_name or "system",
            model=row.remote.followed.model,
            request=row.remote.request,
            data={"to": row.status, "at": row.remote.followed.host, "words": row.words},
        )
        settle(row.remote_id)
        person, followed = row.remote.person, row.remote.followed
        if followed.mail_applicants and person.email and row.status != FarStatus.PENDING:
            queue_mail(
                key=f"far-decision:{row.pk}",
                to=person.email,
                template="mails/far_decision.txt",
                context={"person": person, "followed": followed, "push": row},
            )
    return True


def _record_failure(row: RemotePush, held: QuerySet[RemotePush], error: FarError) -> None:
    """Schedule another attempt or give up; a lost right stops everything for that remote until a new token."""
    followed, now = row.remote.followed, timezone.now()
    free: dict[str, Any] = {**FREE, "last_error": f"{followed.host}: {error}"}
    if isinstance(error, TokenRefused):
        changes = refused(followed, token_for(followed.endpoint), lost_right(followed, str(error)))
        type(followed).objects.filter(pk=followed.pk, state=FollowState.FOLLOWING).update(**changes)
        _make_due_again(row, held, FIRST_PAUSE, attempts=F("attempts") - 1, **free)
        return
    if isinstance(error, Limited):
        pause = timedelta(seconds=error.seconds)
        _make_due_again(row, held, pause, attempts=F("attempts") - 1, **free)
        return
    note_trouble(followed, f"A decision could not be reported to {followed.host}: {error}.")
    final = isinstance(error, Refused | Drifted) or row.attempts >= MOST_ATTEMPTS
    if not final:
        _make_due_again(row, held, min(FIRST_PAUSE * 2 ** min(row.attempts - 1, 20), LONGEST_PAUSE), **free)
        return
    log.warning("%s was not told: %s", row, error)
    with recorded():
        lock_remote(row.remote_id)
        if held.update(state=PushState.FAILED, next_try_at=now, **free):
            append_event(
                kind="remote.not_told",
                model=followed.model,
                request=row.remote.request,
                data={"to": row.status, "why": str(error)[:300]},
            )
            settle(row.remote_id)


def _newer_pushes(row: RemotePush) -> QuerySet[RemotePush]:
    return RemotePush.objects.filter(remote=row.remote_id, pk__gt=row.pk, state=PushState.DUE)


def _make_due_again(row: RemotePush, held: QuerySet[RemotePush], pause: timedelta, **fields: Any) -> None:
    """Make the push due again, or mark it as replaced if there is a later one."""
    with transaction.atomic():
        lock_remote(row.remote_id)
        if _newer_pushes(row).exists():
            held.update(state=PushState.REPLACED, **{**FREE, **fields})
        else:
            held.update(state=PushState.DUE, next_try_at=timezone.now() + pause, **{**FREE, **fields})
