"""Rules for uploads to a model."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_requests.models import GatedModel


class UploadRule(models.Model):
    """Whether owners' uploads to a model are published at once; without a row they are held."""

    model = models.OneToOneField(GatedModel, models.CASCADE, related_name="upload_rule")
    publish_uploads = models.BooleanField(
        default=False, help_text=_("Publish what an owner uploads at once, without holding it for a look.")
    )

    def __str__(self) -> str:
        if self.publish_uploads:
            return gettext("%(model)s: published") % {"model": self.model}
        return gettext("%(model)s: held") % {"model": self.model}
