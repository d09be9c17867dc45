"""How a model takes uploads."""

from __future__ import annotations

from django.db import models

from access_requests.models import GatedModel


class UploadRule(models.Model):
    """What happens to the uploads of one model's owners; a model without a row holds them."""

    model = models.OneToOneField(GatedModel, models.CASCADE, related_name="upload_rule")
    publish_uploads = models.BooleanField(
        default=False, help_text="Publish what an owner uploads at once, without holding it for a look."
    )

    def __str__(self) -> str:
        return f"{self.model}: {'published' if self.publish_uploads else 'held'}"
