"""Follow a repository, pause, poll now and unfollow, as an owner or operator; each change appends an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.access.permissions import is_owner
from access_requests.enums import FollowState, PushState
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import FollowedRepo, GatedModel, RemotePush
from access_requests.services.catalogue.gated_models import check_repo_id
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.following.credentials import (
    check_endpoint,
    has_token,
    known_endpoints,
    token_setting,
)
from access_requests.services.leases import FREE
from access_requests.services.queue import enqueue_on_commit

if TYPE_CHECKING:
    from portal.accounts.models import User

SHORTEST_PAUSE, LONGEST_PAUSE = 60, 24 * 3600  # seconds between two polls


def follow(*, model: GatedModel, endpoint: str, far_id: str = "", actor: User | None = None) -> FollowedRepo:
    """Start to follow the repository `far_id` (default: the model's own id); the first poll runs at once.

    The admin offers only endpoints for which an operator set a token.
    """
    _check_owner(model, actor)
    endpoint, far_id = check_endpoint(endpoint), check_repo_id(far_id.strip() or model.repo_id)
    names = {"model": model, "endpoint": endpoint, "repository": far_id, "setting": token_setting(endpoint)}
    if actor is not None and endpoint not in known_endpoints():
        raise Invalid(
            _("%(endpoint)s has no token here: ask an operator to set GATEHOUSE_FOLLOW_TOKENS.") % names
        )
    if not has_token(endpoint):
        sentence = _(
            "There is no token for %(endpoint)s: set %(setting)s to one with write access to %(repository)s."
        )
        raise Invalid(sentence % names)
    if not model.is_gated or model.form is None:
        raise Invalid(
            _("%(model)s is not gated here, so there is nothing to decide: set its gate first.") % names
        )
    try:
        with recorded():
            followed = _new_or_earlier_row(model, endpoint, far_id)
            _append_following_event(followed, "following.began", actor)
            enqueue_on_commit("access_requests.tasks.poll_followed", followed.pk)
    except IntegrityError as error:
        sentence = _(
            "%(repository)s at %(endpoint)s is followed already, "
            "or %(model)s follows another repository: unfollow that first."
        )
        raise Conflict(sentence % names) from error
    return followed


def _new_or_earlier_row(model: GatedModel, endpoint: str, far_id: str) -> FollowedRepo:
    """Return a new row, or the earlier one with everything that was imported then."""
    earlier = (
        FollowedRepo.objects.select_for_update(no_key=True)
        .filter(model=model, endpoint=endpoint, far_id__iexact=far_id, state=FollowState.ENDED)
        .first()
    )
    followed = earlier or FollowedRepo(model=model, endpoint=endpoint, far_id=far_id)
    followed.state, followed.problem, followed.refused_token = FollowState.FOLLOWING, "", ""
    followed.failures, followed.next_poll_at = 0, timezone.now()
    followed.failing_since = followed.failing_told_at = None
    followed.save()
    return followed


def unfollow(*, followed: FollowedRepo, actor: User | None = None) -> None:
    """Stop following: nothing is polled or reported any more. Imported requests and their grants stay."""
    _check_owner(followed.model, actor)
    with recorded():
        _set_state(
            followed, FollowState.ENDED, [FollowState.FOLLOWING, FollowState.PAUSED, FollowState.REFUSED]
        )
        RemotePush.objects.filter(remote__followed=followed, state=PushState.DUE).update(
            state=PushState.REPLACED
        )
        _append_following_event(followed, "following.ended", actor)


def pause(*, followed: FollowedRepo, actor: User | None = None) -> None:
    """Stop polls and reports until `sync_now`; decisions made in the meantime are reported then."""
    _check_owner(followed.model, actor)
    with recorded():
        _set_state(followed, FollowState.PAUSED, [FollowState.FOLLOWING, FollowState.REFUSED])
        _append_following_event(followed, "following.paused", actor)


def sync_now(*, followed: FollowedRepo, actor: User | None = None) -> None:
    """Poll in a moment, whatever stopped the polls: a pause, or a token whose rights were fixed since."""
    _check_owner(followed.model, actor)
    with recorded():
        going = [FollowState.FOLLOWING, FollowState.PAUSED, FollowState.REFUSED]
        _set_state(followed, FollowState.FOLLOWING, going, next_poll_at=timezone.now(), refused_token="")
        due = RemotePush.objects.filter(remote__followed=followed, state=PushState.DUE)
        due.update(next_try_at=timezone.now())
        _append_following_event(followed, "following.asked", actor)
        enqueue_on_commit("access_requests.tasks.poll_followed", followed.pk)


def change_following(
    *, followed: FollowedRepo, poll_every: int, mail_applicants: bool, actor: User | None = None
) -> None:
    """Change how often the repository is polled, and whether its applicants also get emails from here."""
    _check_owner(followed.model, actor)
    if not SHORTEST_PAUSE <= poll_every <= LONGEST_PAUSE:
        raise Invalid(
            _("%(seconds)s seconds is not allowed: write a number from %(least)s to %(most)s.")
            % {"seconds": poll_every, "least": SHORTEST_PAUSE, "most": LONGEST_PAUSE},
            field="poll_every",
        )
    with recorded():
        FollowedRepo.objects.filter(pk=followed.pk).update(
            poll_every=poll_every, mail_applicants=mail_applicants
        )
        _append_following_event(followed, "following.changed", actor, every=poll_every, mails=mail_applicants)


def followed_by(model: GatedModel) -> FollowedRepo:
    """Return the repository that the model follows now. Raises `NotFound`."""
    rows = FollowedRepo.objects.select_related("model").exclude(state=FollowState.ENDED)
    followed = rows.filter(model=model).first()
    if followed is None:
        raise NotFound(f"{model} follows no repository: begin with manage.py follow {model}.")
    return followed


def _set_state(followed: FollowedRepo, to: FollowState, allowed: list[FollowState], **fields: Any) -> None:
    """Set a new state; a running poll loses its lease, so that it cannot overwrite the state."""
    rows = FollowedRepo.objects.filter(pk=followed.pk, state__in=allowed)
    if not rows.update(state=to, **FREE, **fields):
        followed.refresh_from_db()
        raise Conflict(
            _("%(followed)s is %(state)s, so this cannot be done now.")
            % {"followed": followed, "state": followed.get_state_display()}
        )
    followed.refresh_from_db()


def _check_owner(model: GatedModel, actor: User | None) -> None:
    if actor is not None and not is_owner(actor, model):
        raise NotAllowed(_("You are not an owner of %(model)s: ask one.") % {"model": model})


def _append_following_event(followed: FollowedRepo, kind: str, actor: User | None, **data: Any) -> None:
    append_event(
        kind=kind,
        actor=actor,
        by="operator",
        model=followed.model,
        data={"endpoint": followed.endpoint, "repository": followed.far_id, **data},
    )
