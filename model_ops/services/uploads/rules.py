"""Set whether a model publishes uploads of its owners at once or holds them for a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from access_requests.models import GatedModel
from access_requests.services.event_log.append import append_event, recorded
from model_ops.models import UploadRule

if TYPE_CHECKING:
    from portal.accounts.models import User


def publishes_uploads(model: GatedModel) -> bool:
    """Return whether the model publishes uploads at once; False if nothing was set."""
    return UploadRule.objects.filter(model=model, publish_uploads=True).exists()


def set_upload_rule(*, model: GatedModel, publish_uploads: bool, actor: User | None = None) -> UploadRule:
    """Set the rule for new uploads; held ones stay held."""
    with recorded():
        GatedModel.objects.select_for_update(no_key=True).get(pk=model.pk)
        before = publishes_uploads(model)
        rule, _ = UploadRule.objects.update_or_create(
            model=model, defaults={"publish_uploads": publish_uploads}
        )
        if before != publish_uploads:
            append_event(
                kind="model.settings_changed",
                actor=actor,
                by="operator",
                model=model,
                data={"publish_uploads": publish_uploads},
            )
    return rule
