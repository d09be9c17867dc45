"""Where a visitor stands with a model, for the badge and the status panel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext_lazy

from access_requests.access.access import (
    AccessDecision,
    access_of,
    open_request,
    position_in_words,
    queue_position,
)
from access_requests.enums import AccessCode, RequestState
from access_requests.models import AccessRequest, Decision, GatedModel
from model_ops.queries import WeightsState, weights_state
from portal.pages.stages import Stage, stages

# Code -> class and words of the badge; codes that are not listed need none.
BADGES = {
    AccessCode.OPEN_MODEL: ("", gettext_lazy("not gated")),
    AccessCode.GRANTED: ("active", gettext_lazy("you have access")),
    AccessCode.LICENCE_OWED: ("changes_requested", gettext_lazy("accept the new licence")),
    AccessCode.STAFF: ("info", gettext_lazy("you review this model")),
    AccessCode.DRAFT: ("draft", gettext_lazy("your draft is not submitted")),
    AccessCode.PENDING: ("submitted", gettext_lazy("your request is waiting")),
    AccessCode.CHANGES_REQUESTED: ("changes_requested", gettext_lazy("changes requested")),
    AccessCode.REJECTED: ("rejected", gettext_lazy("rejected")),
    AccessCode.WITHDRAWN: ("withdrawn", gettext_lazy("withdrawn")),
    AccessCode.RESET: ("reset", gettext_lazy("closed: you may ask again")),
    AccessCode.EXPIRED: ("expired", gettext_lazy("your access has ended")),
    AccessCode.REVOKED: ("revoked", gettext_lazy("your access was revoked")),
}


def badge_of(code: AccessCode) -> tuple[str, str] | None:
    """Return the class and words of the badge for this code, or None if it needs none."""
    if code not in BADGES:
        return None
    css, words = BADGES[code]
    return css, str(words)


@dataclass(frozen=True)
class Standing:
    """The contents of the status panel. `request` is an open one, even for a reviewer of the model."""

    access: AccessDecision
    request: AccessRequest | None
    decision: Decision | None
    position: int | None
    weights: WeightsState
    stages: list[Stage]

    @property
    def place(self) -> str:
        """Return the place in the queue, in words."""
        return position_in_words(self.position) if self.position else ""

    @property
    def code(self) -> str:
        return self.access.code.value

    @property
    def template(self) -> str:
        return f"portal/status/{self.code}.html"

    @property
    def badge(self) -> tuple[str, str] | None:
        return badge_of(self.access.code)

    @property
    def until(self) -> datetime | None:
        return self.access.until

    @property
    def may_appeal(self) -> bool:
        """Return whether the page offers an appeal; the service decides."""
        return bool(
            self.request and self.request.state == RequestState.REJECTED and not self.request.appealed_at
        )


def standing_of(user: Any, model: GatedModel) -> Standing:
    """Return where this visitor stands now."""
    access, weights = access_of(user, model), weights_state(model)
    request = access.request
    if access.code == AccessCode.STAFF:
        request = open_request(user, model)
    waiting = request if access.code == AccessCode.PENDING else None
    return Standing(
        access=access,
        request=request,
        decision=request.decisions.order_by("-pk").first() if request else None,
        position=queue_position(waiting) if waiting else None,
        weights=weights,
        stages=stages(access, weights),
    )
