"""The stage line: how far a person's request is, from submitted to weights that can be downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.access.access import AccessDecision
from access_requests.enums import AccessCode, RequestState
from model_ops.queries import WeightsState

NAMES = (
    gettext_lazy("Submitted"),
    gettext_lazy("In review"),
    gettext_lazy("Decided"),
    gettext_lazy("Weights"),
    gettext_lazy("Ready"),
)

# Access code -> how many stages are completed; the next one is the current stage.
BEHIND = {
    RequestState.SUBMITTED: 1,
    RequestState.IN_REVIEW: 1,
    RequestState.APPEALED: 1,
    RequestState.CHANGES_REQUESTED: 1,
    RequestState.REJECTED: 2,
}


@dataclass(frozen=True)
class Stage:
    """One stage.

    `css` is `done`, `now`, `bad` or empty; `words` says the same to people who cannot see it.
    """

    name: str
    css: str

    @property
    def words(self) -> str:
        words = {"done": _("done"), "now": _("now"), "bad": _("ended here")}
        return words.get(self.css, _("to come"))


def stages(access: AccessDecision, weights: WeightsState) -> list[Stage]:
    """Return five stages for someone who asked or may read; none for everyone else."""
    if access.code == AccessCode.GRANTED:
        if weights.ready:
            return _stage_line(len(NAMES), "done")
        return _stage_line(3, "bad" if weights.state in {"failed", "refused", "cancelled"} else "now")
    if access.request is None or access.request.state not in BEHIND:
        return []
    state = RequestState(access.request.state)
    return _stage_line(BEHIND[state], "bad" if state == RequestState.REJECTED else "now")


def _stage_line(behind: int, here: str) -> list[Stage]:
    css = ["done"] * behind + [here] + [""] * len(NAMES)
    return [Stage(str(name), mark) for name, mark in zip(NAMES, css, strict=False)]
