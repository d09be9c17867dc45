"""The event log: append-only by a database trigger, chained by hashes."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Event(models.Model):
    """One thing that happened. Written by `services.audit.append_event` alone."""

    number = models.BigIntegerField(unique=True, help_text="1, 2, 3 ... without a gap.")
    at = models.DateTimeField()
    kind = models.CharField(max_length=60)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    actor_name = models.CharField(
        max_length=200, help_text="Copied: the log must read the same when accounts change."
    )
    model = models.ForeignKey("GatedModel", models.PROTECT, null=True, blank=True, related_name="events")
    request = models.ForeignKey("AccessRequest", models.PROTECT, null=True, blank=True, related_name="events")
    grant = models.ForeignKey("Grant", models.PROTECT, null=True, blank=True, related_name="events")
    data = models.JSONField(
        default=dict, blank=True, help_text="Strings, integers, booleans, null, lists and maps of them."
    )
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(actor_name=""), name="event_names_its_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.kind}"
