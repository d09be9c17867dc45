"""Return what is published for a model, and the state of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import F, Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from access_requests.access.compiled_query import SAMPLE_NUMBER, CompiledQuery
from access_requests.models import GatedModel
from model_ops.enums import RecoveryState, WaitsFor
from model_ops.models import ModelWeights, Recovery, Ref, Revision, SmokeRun

MAIN = "main"


def shown_refs(prefix: str = "", revision: str = "revision__") -> Q:
    """Return a filter for names that everyone sees: `main`, tags, and branches with a published revision.

    Any other branch waits for its first upload or is left from an interrupted one: only owners see it.
    """
    published = Q(**{f"{revision}branch": F(f"{prefix}name")})
    return Q(**{f"{prefix}name": MAIN}) | Q(**{f"{prefix}is_tag": True}) | published


@dataclass(frozen=True)
class WeightsState:
    """The state of a model's weights.

    `state` is the state of the recovery, or empty for a model without weights; `sentence` is one ASCII line.
    """

    ready: bool
    percent: int
    state: str
    sentence: str


def main_revision(model: GatedModel) -> Revision | None:
    """Return the revision that `main` points at, with or without weights."""
    ref = _main_ref.first(model=model.pk)
    return ref.revision if ref else None


_main_ref = CompiledQuery(
    lambda model: Ref.objects.filter(model=model, name=MAIN).order_by().select_related("revision"),
    model=SAMPLE_NUMBER,
)


def published(model: GatedModel) -> Revision | None:
    """Return the revision that `main` points at, if it has weights."""
    revision = main_revision(model)
    return revision if revision and revision.has_weights else None


def current_weights(model: GatedModel) -> ModelWeights | None:
    """Return the newest choice of inputs, which `main` uses once they are recovered."""
    found: ModelWeights | None = _current.first(model=model.pk)
    return found


_current = CompiledQuery(
    lambda model: (
        ModelWeights.objects.filter(model=model, replaced_at=None)
        .select_related("recovery")
        .order_by("pk")[:1]
    ),
    model=SAMPLE_NUMBER,
)


def current_recovery(model: GatedModel) -> Recovery | None:
    """Return the recovery that makes or made the model's current weights."""
    weights = current_weights(model)
    return weights.recovery if weights else None


def smoke_run(recovery: Recovery | None) -> SmokeRun | None:
    """Return the latest test of the recovery's weights, for owners and reviewers only."""
    return SmokeRun.objects.filter(recovery=recovery).first() if recovery else None


def weights_state(model: GatedModel) -> WeightsState:
    """Return whether the weights can be read now; if not, the sentence says why and what comes next."""
    if published(model):
        return WeightsState(
            True,
            100,
            RecoveryState.READY,
            _("The weights of %(model)s are ready.") % {"model": model.repo_id},
        )
    recovery = current_recovery(model)
    if recovery is None:
        sentence = _("No weights have been added to %(model)s yet: its owner must add them.") % {
            "model": model.repo_id
        }
        return WeightsState(False, 0, "", sentence)
    return WeightsState(False, recovery.percent, recovery.state, _unready_sentence(model, recovery))


# Why a recovery waits, in words for everyone; owners also see the details.
WAITING = {
    WaitsFor.ROOM: gettext_lazy("The portal's disk has no room for these weights at the moment."),
    WaitsFor.STORE: gettext_lazy("The disk that holds the portal's weights is not connected at the moment."),
    WaitsFor.SOURCE: gettext_lazy(
        "The disk that these weights are made from is not connected at the moment."
    ),
    WaitsFor.REMOTE: gettext_lazy(
        "The remote Hub that these weights come from does not answer at the moment."
    ),
    WaitsFor.MEMORY: gettext_lazy("There was not enough memory to make these weights."),
    WaitsFor.DEVICE: gettext_lazy("The GPU that makes these weights failed or was busy."),
}


def waiting_words(recovery: Recovery) -> str:
    """Return a text for everyone on why the recovery waits and what comes next; "" if it is not waiting."""
    if not recovery.waiting_for:
        return ""
    tries = max(1, recovery.tries)
    interrupted = ngettext(
        "The work on these weights was interrupted once.",
        "The work on these weights was interrupted %(tries)d times.",
        tries,
    )
    why = WAITING.get(WaitsFor(recovery.waiting_for)) or interrupted % {"tries": tries}
    if recovery.waiting_for == WaitsFor.ROOM:
        then = _("They are made as soon as there is room; you don't have to start them again.")
    elif recovery.retry_at:
        then = _("The next try starts at %(time)s UTC.") % {"time": f"{recovery.retry_at:%H:%M}"}
    else:
        then = _("The next try starts by itself.")
    return f"{why} {then}"


def _unready_sentence(model: GatedModel, recovery: Recovery) -> str:
    facts = {
        "model": model.repo_id,
        "address": f"{model.address()}/access",
        "percent": recovery.percent,
        "state": recovery.state,
    }
    if recovery.waiting_for:
        facts["why"] = waiting_words(recovery)
        return (
            _(
                "The weights of %(model)s are not ready: %(why)s "
                "%(address)s shows when it goes on, and you get an email when they are ready."
            )
            % facts
        )
    if recovery.state in {RecoveryState.PLANNED, RecoveryState.RUNNING, RecoveryState.READY}:
        return (
            _(
                "The weights of %(model)s are being recovered, %(percent)d %%: "
                "try again later; %(address)s shows the progress, and you get an email when they are ready."
            )
            % facts
        )
    if recovery.state == RecoveryState.CANCELLED:
        return (
            _(
                "The recovery of the weights of %(model)s was cancelled: its owner can try again, "
                "and you get an email when they are ready; see %(address)s"
            )
            % facts
        )
    return (
        _(
            "The weights of %(model)s could not be made (%(state)s): "
            "its owner has been informed, and you get an email when they are ready; see %(address)s"
        )
        % facts
    )
