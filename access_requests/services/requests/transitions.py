"""Define the allowed moves of a request, and make them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.enums import CLOSED_STATES, WAITING_STATES, RequestState
from access_requests.errors import Conflict
from access_requests.models import AccessRequest, Event
from access_requests.services.event_log.append import append_event

if TYPE_CHECKING:
    from portal.accounts.models import User

S = RequestState


@dataclass(frozen=True)
class Move:
    """An allowed move. `who` and `requires` are text for the docs; the services check them."""

    source: RequestState
    target: RequestState
    who: str
    requires: str
    event: str

    @property
    def makers(self) -> list[str]:
        """Return who may make the move, one by one."""
        return self.who.split(" or ")


GONE = "by a reviewer: withdrawn where it was asked"
MOVES = (
    Move(S.DRAFT, S.SUBMITTED, "applicant", "complete form, licence accepted", "request.submitted"),
    Move(S.DRAFT, S.WITHDRAWN, "applicant or reviewer", "an earlier one is reopened", "request.withdrawn"),
    Move(S.SUBMITTED, S.IN_REVIEW, "reviewer", "", "request.opened"),
    Move(S.SUBMITTED, S.APPROVED, "policy", "gate is auto", "request.approved"),
    Move(S.SUBMITTED, S.WITHDRAWN, "applicant or reviewer", GONE, "request.withdrawn"),
    Move(S.IN_REVIEW, S.APPROVED, "reviewer", "not the applicant", "request.approved"),
    Move(S.IN_REVIEW, S.REJECTED, "reviewer", "reason and words", "request.rejected"),
    Move(S.IN_REVIEW, S.CHANGES_REQUESTED, "reviewer", "words", "request.changes_requested"),
    Move(S.IN_REVIEW, S.RESET, "reviewer", "", "request.reset"),
    Move(S.IN_REVIEW, S.WITHDRAWN, "applicant or reviewer", GONE, "request.withdrawn"),
    Move(
        S.CHANGES_REQUESTED, S.SUBMITTED, "applicant", "complete form, licence accepted", "request.submitted"
    ),
    Move(S.CHANGES_REQUESTED, S.APPEALED, "applicant", "the same, on appeal", "request.submitted"),
    Move(S.CHANGES_REQUESTED, S.APPROVED, "reviewer", "not the applicant", "request.approved"),
    Move(S.CHANGES_REQUESTED, S.REJECTED, "reviewer", "reason and words", "request.rejected"),
    Move(S.CHANGES_REQUESTED, S.RESET, "reviewer", "", "request.reset"),
    Move(S.CHANGES_REQUESTED, S.WITHDRAWN, "applicant or reviewer", GONE, "request.withdrawn"),
    Move(S.APPROVED, S.APPROVED, "reviewer", "the access has ended", "request.approved"),
    Move(S.APPROVED, S.IN_REVIEW, "reviewer", "the access is revoked", "request.reopened"),
    Move(S.APPROVED, S.REJECTED, "reviewer", "reason and words, the access is revoked", "request.rejected"),
    Move(S.REJECTED, S.APPROVED, "reviewer", "not the applicant", "request.approved"),
    Move(S.REJECTED, S.REJECTED, "reviewer", "access was given and ended since", "request.rejected"),
    Move(S.REJECTED, S.IN_REVIEW, "reviewer", "", "request.reopened"),
    Move(S.REJECTED, S.RESET, "reviewer", "", "request.reset"),
    Move(S.REJECTED, S.APPEALED, "applicant", "words, once per rejection", "request.appealed"),
    Move(S.RESET, S.APPROVED, "reviewer", "not the applicant", "request.approved"),
    Move(S.RESET, S.IN_REVIEW, "reviewer", "", "request.reopened"),
    Move(S.RESET, S.REJECTED, "reviewer", "reason and words", "request.rejected"),
    Move(S.APPEALED, S.APPROVED, "reviewer", "another reviewer where there is one", "request.approved"),
    Move(S.APPEALED, S.REJECTED, "reviewer", "another reviewer where there is one", "request.rejected"),
    Move(S.APPEALED, S.CHANGES_REQUESTED, "reviewer", "words", "request.changes_requested"),
    Move(S.APPEALED, S.RESET, "reviewer", "", "request.reset"),
    Move(S.APPEALED, S.WITHDRAWN, "applicant or reviewer", GONE, "request.withdrawn"),
)
DATES = ("submitted_at", "first_submitted_at", "appealed_at", "closed_at")  # dates that a move may set
HOLD = ("held_at", "held_by", "hold_reason")  # a decision ends a hold
ALLOWED = {(move.source, move.target): move for move in MOVES}


def move(
    request: AccessRequest,
    target: RequestState,
    *,
    who: str,
    actor: User | None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Move a locked request, set its dates and return the appended event. Raises `Conflict` with what happened meanwhile.

    A reopened request starts afresh: an appeal that was decided is over, and only the event keeps its text. A decision ends a
    hold, and all votes.
    """
    allowed = ALLOWED.get((RequestState(request.state), target))
    if allowed is None or who not in allowed.makers:
        raise Conflict(what_happened(request))
    now = timezone.now()
    data = data or {}
    if request.appealed_at is not None and request.state in CLOSED_STATES:
        data = {**data, "appeal_before": request.appeal}
        request.appeal, request.appealed_at = "", None
    request.state = target
    if allowed.event == "request.submitted":
        request.submitted_at = now
        request.first_submitted_at = request.first_submitted_at or now
    if target == S.APPEALED:
        request.appealed_at = request.appealed_at or now
    request.closed_at = now if target in CLOSED_STATES else None
    if target not in WAITING_STATES:
        request.held_at = request.held_by = None
        request.hold_reason = ""
    request.save(update_fields=["state", *DATES, *HOLD, "appeal", "updated_at"])
    if target not in {S.IN_REVIEW, S.SUBMITTED} or allowed.source in CLOSED_STATES:
        end_votes(request, now)
    return append_event(
        kind=allowed.event,
        actor=actor,
        by="policy",
        model=request.model,
        request=request,
        data={"from": allowed.source.value, "to": target.value, **data},
    )


def end_votes(request: AccessRequest, now: datetime) -> None:
    """End the votes that count for a locked request; they are kept, and count no more."""
    request.votes.filter(ended_at__isnull=True).update(ended_at=now)


def what_happened(request: AccessRequest) -> str:
    """Return the sentence for a person who is too late: the state now, and who decided when."""
    decision = request.decisions.select_related("reviewer").order_by("-pk").first()
    if decision and request.state in {S.APPROVED, S.REJECTED, S.CHANGES_REQUESTED, S.RESET}:
        given = {
            "id": request.pk,
            "outcome": decision.get_outcome_display(),
            "decider": decision.reviewer.username if decision.reviewer else _("policy"),
            "day": f"{decision.decided_at:%Y-%m-%d}",
            "time": f"{decision.decided_at:%H:%M}",
        }
        return (
            _("Request #%(id)s was already decided: %(outcome)s by %(decider)s on %(day)s at %(time)s UTC.")
            % given
        )
    return _("Request #%(id)s is %(state)s now, so this cannot be done any more.") % {
        "id": request.pk,
        "state": request.get_state_display(),
    }


def as_mermaid() -> str:
    """Return the docs' diagram as Mermaid, made from the table."""
    lines = ["stateDiagram-v2", "    [*] --> draft"]
    lines += [f"    {m.source.value} --> {m.target.value}: {m.who}" for m in MOVES]
    return "\n".join(lines)
