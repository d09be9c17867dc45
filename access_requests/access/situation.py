"""Where a person stands with a model, by one rule: a live grant, else whichever of the newest request and grant came last.

Pages, the Hub's four lists and followed repositories choose the request that they pass in, each for a reason of its own
(pages count drafts, the lists do not); what follows from it stands here once, in three tables.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from django.db.models import F

from access_requests.enums import AccessCode, FarStatus, Place, RequestState
from access_requests.models import AccessRequest, Grant

# The open request, else the one that was closed last: an older one may have been reopened since.
NEWEST_FIRST = (F("closed_at").desc(nulls_first=True), F("pk").desc())


class Situation(StrEnum):
    """What decides: a grant that is live or has ended, or else the state of a request."""

    NOTHING = "nothing"  # neither a request nor a grant
    HAS_ACCESS = "has_access"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DRAFT = "draft"
    WAITING = "waiting"
    CHANGES_REQUESTED = "changes_requested"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    RESET = "reset"
    APPROVED = "approved"  # and the grant is not known, or was never made


OF_STATE = {
    RequestState.DRAFT: Situation.DRAFT,
    RequestState.SUBMITTED: Situation.WAITING,
    RequestState.IN_REVIEW: Situation.WAITING,
    RequestState.APPEALED: Situation.WAITING,
    RequestState.CHANGES_REQUESTED: Situation.CHANGES_REQUESTED,
    RequestState.REJECTED: Situation.REJECTED,
    RequestState.WITHDRAWN: Situation.WITHDRAWN,
    RequestState.RESET: Situation.RESET,
    RequestState.APPROVED: Situation.APPROVED,
}

# What a person is told who may read neither as an owner nor as a reviewer.
ACCESS_CODES = {
    Situation.NOTHING: AccessCode.NO_REQUEST,
    Situation.HAS_ACCESS: AccessCode.GRANTED,
    Situation.EXPIRED: AccessCode.EXPIRED,
    Situation.REVOKED: AccessCode.REVOKED,
    Situation.DRAFT: AccessCode.DRAFT,
    Situation.WAITING: AccessCode.PENDING,
    Situation.CHANGES_REQUESTED: AccessCode.CHANGES_REQUESTED,
    Situation.REJECTED: AccessCode.REJECTED,
    Situation.WITHDRAWN: AccessCode.WITHDRAWN,
    Situation.RESET: AccessCode.RESET,
    Situation.APPROVED: AccessCode.NO_REQUEST,
}

# The list of the Hub that a person is in. Drafts and withdrawn requests are passed in by nobody who asks for it.
PLACES = {
    Situation.NOTHING: None,
    Situation.HAS_ACCESS: Place.ACCEPTED,
    Situation.EXPIRED: Place.RESET,
    Situation.REVOKED: Place.RESET,
    Situation.DRAFT: Place.PENDING,
    Situation.WAITING: Place.PENDING,
    Situation.CHANGES_REQUESTED: Place.PENDING,
    Situation.REJECTED: Place.REJECTED,
    Situation.WITHDRAWN: Place.RESET,
    Situation.RESET: Place.RESET,
    Situation.APPROVED: Place.RESET,
}

# What a followed repository should say of the person. A withdrawn request is in none of its lists.
FAR_STATUSES = {
    Situation.NOTHING: FarStatus.RESET,
    Situation.HAS_ACCESS: FarStatus.ACCEPTED,
    Situation.EXPIRED: FarStatus.RESET,
    Situation.REVOKED: FarStatus.RESET,
    Situation.DRAFT: FarStatus.PENDING,
    Situation.WAITING: FarStatus.PENDING,
    Situation.CHANGES_REQUESTED: FarStatus.PENDING,
    Situation.REJECTED: FarStatus.REJECTED,
    Situation.WITHDRAWN: FarStatus.MISSING,
    Situation.RESET: FarStatus.RESET,
    Situation.APPROVED: FarStatus.RESET,
}


def situation(request: AccessRequest | None, grant: Grant | None, now: datetime) -> Situation:
    """Return where a person stands at this moment, from their newest request and newest grant; pure.

    `grant` may also be a live one while there is a newer one that is not.
    """
    if grant is not None and grant.is_live(now):
        return Situation.HAS_ACCESS
    if grant is not None and (request is None or is_older(request, grant)):
        return Situation.REVOKED if grant.revoked_at else Situation.EXPIRED
    return OF_STATE[RequestState(request.state)] if request is not None else Situation.NOTHING


def is_older(request: AccessRequest, grant: Grant) -> bool:
    """Return whether the grant, and not the request, is the last word: a decision against counts from when it was given."""
    if request.is_open:
        return False
    if request.state == RequestState.APPROVED:
        return True
    against = request.state in {RequestState.REJECTED, RequestState.RESET}
    since = request.closed_at if against else request.created_at
    return since is not None and since < grant.starts_at
