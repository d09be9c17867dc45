"""Say where a person stands with a model, by one rule: a live grant, else the later of the newest request and grant.

Pages, the Hub's four lists and followed repositories each pass in a different request (pages count drafts,
the lists do not). What follows from the result is defined only here, in three tables.
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
    """Where a person stands: a live or ended grant, or else the state of a request."""

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
    APPROVED = "approved"  # and the grant is unknown, or was never made


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

# The refusal for a person who is neither owner nor reviewer.
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

# The Hub's list for each situation. Callers that need it never pass in drafts or withdrawn requests.
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

# The state that a followed repository should show. A withdrawn request is in none of its lists.
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
    """Return where a person stands now, from their newest request and newest grant; a pure function.

    `grant` may also be a live grant that is not the newest.
    """
    if grant is not None and grant.is_live(now):
        return Situation.HAS_ACCESS
    if grant is not None and (request is None or is_older(request, grant)):
        return Situation.REVOKED if grant.revoked_at else Situation.EXPIRED
    return OF_STATE[RequestState(request.state)] if request is not None else Situation.NOTHING


def is_older(request: AccessRequest, grant: Grant) -> bool:
    """Return whether the grant is newer than the request: a rejection counts from when it was decided."""
    if request.is_open:
        return False
    if request.state == RequestState.APPROVED:
        return True
    against = request.state in {RequestState.REJECTED, RequestState.RESET}
    since = request.closed_at if against else request.created_at
    return since is not None and since < grant.starts_at
