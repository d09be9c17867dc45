"""Claim a request as one's own work, and put a request on hold; neither keeps others from deciding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.enums import HOLDABLE_STATES, WAITING_STATES
from access_requests.errors import Conflict
from access_requests.models import AccessRequest
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_request
from access_requests.services.requests.decide import check_may_decide, cleaned_words, open_if_new
from access_requests.services.requests.transitions import what_happened

if TYPE_CHECKING:
    from portal.accounts.models import User


def claim_request(*, request: AccessRequest, reviewer: User, take_over: bool = False) -> AccessRequest:
    """Make this reviewer the assignee; a submitted request becomes "in review", an appeal stays an appeal.

    Raises `Conflict` if someone else has claimed it, unless `take_over`, and if it does not wait for a decision.
    """
    with recorded():
        locked = _lock_for_reviewer(request, reviewer)
        if locked.state not in WAITING_STATES:
            raise Conflict(what_happened(locked))
        if locked.assignee_id == reviewer.pk:
            return locked
        before = locked.assignee
        if before is not None and not take_over:
            raise Conflict(
                _(
                    "%(person)s has claimed request #%(number)d. Take it over if you want to decide it yourself."
                )
                % {"person": before.username, "number": locked.pk}
            )
        locked.assignee, locked.claimed_at = reviewer, timezone.now()
        locked.save(update_fields=["assignee", "claimed_at", "updated_at"])
        append_event(
            kind="request.claimed",
            actor=reviewer,
            model=locked.model,
            request=locked,
            data={"taken_from": before.username if before else None},
        )
        open_if_new(locked, reviewer)
    return locked


def release_claim(*, request: AccessRequest, reviewer: User) -> AccessRequest:
    """Let others claim the request; its state stays. Raises `Conflict` if nobody has claimed it."""
    with recorded():
        locked = _lock_for_reviewer(request, reviewer)
        before = locked.assignee
        if before is None:
            raise Conflict(_("Nobody has claimed request #%(number)d.") % {"number": locked.pk})
        locked.assignee = locked.claimed_at = None
        locked.save(update_fields=["assignee", "claimed_at", "updated_at"])
        append_event(
            kind="request.released",
            actor=reviewer,
            model=locked.model,
            request=locked,
            data={"assignee": before.username},
        )
    return locked


def hold_request(*, request: AccessRequest, reviewer: User, reason: str) -> AccessRequest:
    """Put an open request on hold, with a reason for other reviewers; a decision or `end_hold` ends it.

    Raises `Invalid` without a reason, and `Conflict` if the request is closed, or on hold already.
    """
    reason = cleaned_words(reason, _("Say what the request waits for."))
    with recorded():
        locked = _lock_for_reviewer(request, reviewer)
        if locked.state not in HOLDABLE_STATES:
            raise Conflict(what_happened(locked))
        if locked.held_at is not None:
            raise Conflict(_("Request #%(number)d is already on hold.") % {"number": locked.pk})
        locked.held_at, locked.held_by, locked.hold_reason = timezone.now(), reviewer, reason
        locked.save(update_fields=["held_at", "held_by", "hold_reason", "updated_at"])
        append_event(
            kind="request.held",
            actor=reviewer,
            model=locked.model,
            request=locked,
            data={"words": reason},
        )
    return locked


def end_hold(*, request: AccessRequest, reviewer: User) -> AccessRequest:
    """End the hold. Raises `Conflict` if there is none."""
    with recorded():
        locked = _lock_for_reviewer(request, reviewer)
        if locked.held_at is None:
            raise Conflict(_("Request #%(number)d is not on hold.") % {"number": locked.pk})
        locked.held_at = locked.held_by = None
        locked.hold_reason = ""
        locked.save(update_fields=["held_at", "held_by", "hold_reason", "updated_at"])
        append_event(kind="request.hold_ended", actor=reviewer, model=locked.model, request=locked)
    return locked


def _lock_for_reviewer(request: AccessRequest, reviewer: User) -> AccessRequest:
    """Lock the request for someone who may decide it; raises `NotAllowed` for others."""
    locked = lock_request(request)
    check_may_decide(request=locked, reviewer=reviewer)
    return locked
