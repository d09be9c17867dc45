"""Shards of a recovery that several workers make together."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from model_ops.enums import ShardState, WaitsFor
from model_ops.models.recoveries import Recovery


class RecoveryShard(models.Model):
    """One file of weights, made by one worker at a time; only the recovery's latest attempt has rows."""

    recovery = models.ForeignKey(Recovery, models.CASCADE, related_name="shards")
    file = models.CharField(max_length=500)
    state = models.CharField(max_length=10, choices=ShardState, default=ShardState.PLANNED)
    lease_owner = models.CharField(
        max_length=32, blank=True, help_text=_("Random; the worker that holds the row.")
    )
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text=_("After this the row may be claimed by another worker.")
    )
    waiting_for = models.CharField(
        max_length=10,
        choices=WaitsFor,
        blank=True,
        db_default="",
        help_text=_("What it cannot go on without for now."),
    )
    retry_at = models.DateTimeField(null=True, blank=True, help_text=_("When it is looked at again."))
    tries = models.PositiveSmallIntegerField(db_default=0, help_text=_("How often in a row it had to wait."))
    attempts = models.PositiveIntegerField(default=0)
    worker = models.CharField(
        max_length=200, blank=True, help_text=_("The name of the last one that held it.")
    )
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField()
    error = models.TextField(blank=True, help_text=_("One sentence."))

    class Meta:
        ordering = ["recovery", "file"]
        indexes = [
            models.Index(fields=["id"], condition=~Q(state=ShardState.DONE), name="shard_not_done"),
            models.Index(fields=["retry_at"], condition=~Q(waiting_for=""), name="shard_waiting"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["recovery", "file"], name="one_row_per_shard"),
            models.CheckConstraint(
                condition=~Q(state=ShardState.RUNNING) | (Q(lease_until__isnull=False) & ~Q(lease_owner="")),
                name="shard_running_has_lease",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.file} ({self.state})"
