"""The download log: one row per body."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from access_requests.models import AccessToken, GatedModel, Grant


class Download(models.Model):
    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="downloads")
    grant = models.ForeignKey(Grant, models.PROTECT, null=True, blank=True, related_name="downloads")
    token = models.ForeignKey(AccessToken, models.PROTECT, null=True, blank=True, related_name="downloads")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="downloads"
    )
    commit = models.CharField(max_length=40)
    path = models.CharField(max_length=500)
    first_byte = models.BigIntegerField(default=0)
    bytes_asked = models.BigIntegerField()
    bytes_sent = models.BigIntegerField()
    status = models.PositiveSmallIntegerField()
    seconds = models.FloatField()
    address = models.GenericIPAddressField(null=True, blank=True)
    client = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["model", "started_at"], name="download_by_model")]

    def __str__(self) -> str:
        return f"{self.path}: {self.bytes_sent} bytes"
