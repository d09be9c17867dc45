"""Render the state of weights for pages of other apps: plan, state and progress of a recovery."""

from __future__ import annotations

from typing import Any

from django.db.models import Max, Q, Sum
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from access_requests.access.permissions import is_owner, is_reviewer
from access_requests.models import AccessRequest, GatedModel
from model_ops.enums import RecoveryState
from model_ops.models import Recovery
from model_ops.queries import current_recovery, published, smoke_run, waiting_words
from model_ops.recovery import MANIFEST
from model_ops.recovery.inspection.reading import read_part
from model_ops.recovery.inspection.tree import MANIFEST_HEAD, is_diff
from model_ops.services.store.blobs import blob_path

MOVING = (RecoveryState.PLANNED, RecoveryState.RUNNING)


def case_panel(request: AccessRequest, http_request: HttpRequest) -> str:
    """Show the reviewer of a request what approving it starts, and how far that is."""
    return _render_panel("model_ops/case_panel.html", request.model, http_request)


def model_panel(model: GatedModel, http_request: HttpRequest) -> str:
    """Show everyone on the model's page what is published; owners also see the plan."""
    return _render_panel("model_ops/model_panel.html", model, http_request)


def access_panel(model: GatedModel, http_request: HttpRequest) -> str:
    """Show someone who may read the model how far its weights are."""
    return _render_panel("model_ops/access_panel.html", model, http_request)


def _render_panel(template: str, model: GatedModel, http_request: HttpRequest) -> str:
    return render_to_string(template, weights_context(model, http_request), request=http_request)


def weights_context(model: GatedModel, http_request: HttpRequest) -> dict[str, Any]:
    """Return the context for the panels' templates."""
    recovery, revision = current_recovery(model), published(model)
    size, manifest = 0, None
    if revision is not None:
        sha256 = Max("blob_id", filter=Q(path=MANIFEST))
        facts = revision.files.aggregate(size=Sum("blob__size"), manifest=sha256)
        size, manifest = facts["size"] or 0, facts["manifest"]
    granted = False
    if recovery and not revision:
        # The message of a live grant may still be on the way, or lost until the next check for such grants.
        now = timezone.now()
        granted = model.grants.filter(revoked_at=None, starts_at__lte=now, ends_at__gt=now).exists()
    owner, reviewer = is_owner(http_request.user, model), is_reviewer(http_request.user, model)
    return {
        "model": model,
        "recovery": recovery,
        "revision": revision,
        "bytes_published": size,
        "is_diff": manifest is not None and is_diff(read_part(blob_path(manifest), 0, MANIFEST_HEAD)),
        "moving": is_moving(recovery),
        "waiting": waiting_words(recovery) if recovery else "",
        "granted": granted,
        "replacing": bool(revision and recovery and recovery.state != RecoveryState.READY),
        "smoke": smoke_run(recovery) if reviewer else None,
        "shows_plan": reviewer,
        "shows_error": owner,
    }


def is_moving(recovery: Recovery | None) -> bool:
    """Return whether pages should keep polling: the recovery is wanted and has not ended."""
    return bool(recovery and recovery.state in MOVING and recovery.wanted_at)
