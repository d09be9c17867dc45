"""Settle a difference between both sides, as a reviewer decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from access_requests.access.permissions import is_reviewer
from access_requests.enums import FarStatus, FollowState, Place, PushState, RequestState
from access_requests.errors import Conflict, NotAllowed
from access_requests.models import Grant, RemoteRequest
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.following.drift import (
    asked_again,
    lock_remote,
    plan_push,
    settle,
    status_here,
    with_standing,
)
from access_requests.services.following.importing import has_open_request, import_again
from access_requests.services.following.reading import FarItem
from access_requests.services.grants import revoke_access
from access_requests.services.locks import lock_person, lock_request
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.transitions import move

if TYPE_CHECKING:
    from portal.accounts.models import User


def take_theirs(*, remote: RemoteRequest, actor: User, seen: str) -> None:
    """Take over the remote's state with the same services as any decision; nothing is reported there.

    `seen` is the state there that the reviewer saw on the page.
    """
    with recorded():
        row = _lock_drifted(remote, actor, seen)
        there = FarStatus(row.far_status)
        append_event(
            kind="remote.taken_over",
            actor=actor,
            model=row.followed.model,
            request=row.request,
            data={"from": row.followed.host, "was": str(status_here(row)), "is": there.value},
        )
        row.pushes.filter(state=PushState.FAILED).update(state=PushState.REPLACED)
        if asked_again(row):
            _replace_request(row, actor)
        elif there == FarStatus.MISSING and row.request.is_open:  # the person withdrew there or is gone
            _withdraw_request(row, actor)
        elif there == FarStatus.MISSING:
            reason = f"{row.person} is in none of the lists of {row.followed.host} any more."
            revoke_access(model=row.followed.model, user=row.person.user, reason=reason, actor=actor)
        else:
            change_place(
                model=row.followed.model,
                person=row.person.user,
                to=Place(there.value),
                reviewer=actor,
                words="" if there == FarStatus.ACCEPTED else f"As decided at {row.followed.host}.",
            )
        row.pushes.filter(state=PushState.DUE).update(state=PushState.REPLACED)
        settle(row.pk)


def push_ours(*, remote: RemoteRequest, actor: User, seen: str) -> None:
    """Overwrite the remote's state with ours, unless it has changed since `seen`."""
    with recorded():
        row = _lock_drifted(remote, actor, seen)
        if row.followed.state == FollowState.ENDED:
            raise Conflict(
                _("%(followed)s is not followed any more, so nothing is reported there.")
                % {"followed": row.followed}
            )
        here = status_here(row)
        gone = row.far_status == FarStatus.MISSING and here != FarStatus.ACCEPTED
        if gone or here == FarStatus.MISSING:
            raise Conflict(
                _(
                    "%(host)s has no request of %(person)s that could be made %(state)s: take the remote's state."
                )
                % {"host": row.followed.host, "person": row.person, "state": here.label}
            )
        row.pushes.filter(state=PushState.FAILED).update(state=PushState.REPLACED)
        plan_push(row, here, words=_reason_for_remote(row, here), actor_name=actor.username, anyway=True)
        append_event(
            kind="remote.pushed",
            actor=actor,
            model=row.followed.model,
            request=row.request,
            data={"to": row.followed.host, "was": row.far_status, "is": here.value},
        )


def _lock_drifted(remote: RemoteRequest, actor: User, seen: str) -> RemoteRequest:
    lock_person(remote.person.user_id)
    row = with_standing(RemoteRequest.objects.filter(pk=lock_remote(remote.pk).pk)).get()
    if not is_reviewer(actor, row.followed.model):
        raise NotAllowed(
            _("You are not a reviewer of %(model)s: ask its owner.") % {"model": row.followed.model}
        )
    if row.far_status != seen or row.drifted_at is None:
        raise Conflict(
            _("%(host)s says %(there)s and we say %(here)s now: look again.")
            % {
                "host": row.followed.host,
                "there": row.get_far_status_display(),
                "here": status_here(row).label,
            }
        )
    return row


def _reason_for_remote(row: RemoteRequest, told: FarStatus) -> str:
    """Return the reason to report: that of the decision, or else of the end of the access."""
    if told not in {FarStatus.REJECTED, FarStatus.RESET}:
        return ""
    decision = row.request.decisions.order_by("-pk").first()
    if decision and decision.outcome == told:
        return decision.words
    grants = Grant.objects.filter(user=row.person.user, model=row.followed.model)
    ended = grants.exclude(revoked_at=None).order_by("-revoked_at").first()
    return ended.revoke_reason if ended and told == FarStatus.RESET else ""


def _withdraw_request(row: RemoteRequest, actor: User) -> None:
    data = {"at": row.followed.host}
    move(lock_request(row.request), RequestState.WITHDRAWN, who="reviewer", actor=actor, data=data)


def _replace_request(row: RemoteRequest, actor: User) -> None:
    """Replace the old request with the new one: the person asked again there after a withdrawal or reset."""
    person, model = row.person.user, row.followed.model
    if status_here(row) == FarStatus.ACCEPTED:
        revoke_access(model=model, user=person, reason=f"Asked again at {row.followed.host}.", actor=actor)
    if row.request.is_open:
        _withdraw_request(row, actor)
    if has_open_request(person, row.followed):
        raise Conflict(
            _("%(person)s has another open request for %(model)s: decide that one first.")
            % {"person": row.person, "model": model}
        )
    row.refresh_from_db()
    item = FarItem(
        status=FarStatus.PENDING,
        request_id=row.far_request_id,
        asked_at=row.far_asked_at,
        fields=row.far_fields,
    )
    import_again(remote=row, item=item)
