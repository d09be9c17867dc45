"""Compare what both sides say of one person, and plan what to report to the remote."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from access_requests.access.situation import FAR_STATUSES, situation
from access_requests.enums import FarStatus, PushState
from access_requests.models import AccessRequest, FollowedRepo, Grant, RemotePush, RemoteRequest
from access_requests.services.following.texts import one_line
from access_requests.services.queue import enqueue_on_commit

OPEN_PUSHES = (PushState.DUE, PushState.CLAIMED)
LONGEST_REASON = 200  # the Hub's limit, in UTF-16 units, as the Hub counts
OF_GRANT = ("starts_at", "ends_at", "revoked_at")  # what `situation` reads of a grant
LAG = timedelta(seconds=10)  # lists there may still show the old state for a while after a write


def with_standing(rows: QuerySet[RemoteRequest]) -> QuerySet[RemoteRequest]:
    """Annotate the live or newest grant, for `status_here`, and `telling`: whether a report is pending."""
    live = Q(revoked_at=None, starts_at__lte=Now(), ends_at__gt=Now())
    grants = Grant.objects.filter(user=OuterRef("person__user"), model=OuterRef("followed__model"))
    grants = grants.order_by(ExpressionWrapper(live, BooleanField()).desc(), "-pk")
    telling = RemotePush.objects.filter(remote=OuterRef("pk"), state__in=OPEN_PUSHES)
    joined = rows.select_related("request", "person__user", "followed__model")
    return joined.defer("followed__model__card", "followed__model__card_data").annotate(
        telling=Exists(telling), **{f"grant_{name}": Subquery(grants.values(name)[:1]) for name in OF_GRANT}
    )


def status_here(remote: RemoteRequest) -> FarStatus:
    """Return our state in the remote's terms; the row comes from `with_standing`."""
    grant = Grant(**{name: getattr(remote, f"grant_{name}") for name in OF_GRANT})
    known = grant if grant.starts_at else None
    return FAR_STATUSES[situation(remote.request, known, timezone.now())]


def asked_again(remote: RemoteRequest) -> bool:
    """Return whether the person has a newer request there than the one that ours stands for."""
    return remote.far_status == FarStatus.PENDING and remote.far_asked_at > remote.answered_at


def drifts(remote: RemoteRequest) -> bool:
    """Return whether both sides differ and no report to the remote is pending.

    A person who is in no list there does not count if they have neither access nor an open request here.
    """
    here, there = status_here(remote), remote.far_status
    if remote.telling:  # type: ignore[attr-defined]
        return False
    if there == FarStatus.MISSING:
        return here in {FarStatus.PENDING, FarStatus.ACCEPTED}
    return here != there or asked_again(remote)


def lock_remote(pk: int) -> RemoteRequest:
    """Lock a row (after its person's row, before its pushes) and return it with its current values."""
    return RemoteRequest.objects.select_for_update(no_key=True).get(pk=pk)


def settle(remote_id: int) -> None:
    """Record whether the row drifts now, and since when."""
    remote = with_standing(RemoteRequest.objects.filter(pk=remote_id)).get()
    since = (remote.drifted_at or timezone.now()) if drifts(remote) else None
    if since != remote.drifted_at:
        RemoteRequest.objects.filter(pk=remote_id).update(drifted_at=since)


def plan_push(
    remote: RemoteRequest, status: FarStatus, *, words: str = "", actor_name: str = "", anyway: bool = False
) -> RemotePush | None:
    """Plan a new state for the remote in the caller's transaction; it replaces a push that has not started.

    Return None if the remote already has this state, as far as we know; with `anyway`, report it nevertheless.
    """
    locked = lock_remote(remote.pk)
    push = locked.pushes.filter(state=PushState.DUE).first()
    if push is not None and push.status == status:  # an approval is two events: the decision and its grant
        return push
    locked.pushes.filter(state=PushState.DUE).update(state=PushState.REPLACED)
    before = locked.pushes.filter(state=PushState.CLAIMED).order_by("-pk").first()
    expects, push = FarStatus(before.status if before else locked.far_status), None
    if anyway or _is_news(locked, status, expects, in_hand=before is not None):
        push = RemotePush.objects.create(
            remote=locked,
            status=status,
            expects=expects,
            words=cut_words(words),
            actor_name=actor_name[:200],
        )
        enqueue_on_commit("access_requests.tasks.push_decision", push.pk)
    settle(locked.pk)
    return push


def _is_news(remote: RemoteRequest, status: FarStatus, expects: FarStatus, *, in_hand: bool) -> bool:
    """Return whether the state is news for the remote: it differs, and the person is there."""
    if not in_hand and unheard(remote).exists():  # it may say either by now
        return True
    if not in_hand and expects == FarStatus.MISSING and status != FarStatus.ACCEPTED:
        return False
    return expects != status


def unheard(remote: RemoteRequest) -> QuerySet[RemotePush]:
    """Return pushes that were tried and then replaced by a later one: it is unknown whether they arrived."""
    tried = remote.pushes.filter(state=PushState.REPLACED, attempts__gt=0)
    done = remote.pushes.filter(state=PushState.DONE).order_by("-pk").first()
    return tried.filter(pk__gt=done.pk) if done else tried


def cut_words(words: str) -> str:
    """Return a reason that the remote accepts: on one line, and cut at a word if it is longer than the Hub allows."""
    text = one_line(words)
    if _utf16_length(text) <= LONGEST_REASON:
        return text
    kept = text
    while _utf16_length(kept) > LONGEST_REASON - 2:
        kept = kept.rpartition(" ")[0] or kept[:-1]
    return f"{kept.rstrip(' ,;:-')} …"


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def remote_of(request: AccessRequest) -> RemoteRequest | None:
    """Return the remote request behind a request, None if it was made here."""
    return RemoteRequest.objects.select_related("followed", "person").filter(request=request).first()


def drifted(followed: FollowedRepo) -> int:
    return followed.remote_requests.exclude(drifted_at=None).count()
