"""Test prompts for recovered weights, and the answers. Nothing waits for them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from model_ops.enums import SmokeState
from model_ops.models.recoveries import Recovery


class SmokeRun(models.Model):
    """The latest test of a recovery's weights. It starts when they are published and does not change them."""

    recovery = models.OneToOneField(Recovery, models.PROTECT, related_name="smoke_run")
    state = models.CharField(max_length=10, choices=SmokeState, default=SmokeState.WAITING)
    wanted_at = models.DateTimeField(help_text=_("When it was asked for last."))
    ends_by = models.DateTimeField(
        null=True, blank=True, help_text=_("A run that has not ended by then was cut off.")
    )
    retry_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Not before; set where the disk was full.")
    )
    finished_at = models.DateTimeField(null=True, blank=True)
    answer = models.JSONField(
        default=dict,
        blank=True,
        help_text=_("Prompt, answer, tokens, seconds, device, dtype, finite, hints."),
    )
    error = models.TextField(blank=True, help_text=_("One sentence."))

    class Meta:
        verbose_name = _("smoke run")
        indexes = [
            models.Index(fields=["wanted_at"], condition=Q(state=SmokeState.WAITING), name="smoke_waiting"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state=SmokeState.RUNNING) | Q(ends_by__isnull=False),
                name="smoke_running_has_an_end",
            )
        ]

    def __str__(self) -> str:
        return f"smoke run of {self.recovery}"

    @property
    def was_cut_off(self) -> bool:
        """Return whether the run was cut off because its worker was killed; it is not retried automatically."""
        return self.state == SmokeState.RUNNING and self.ends_by is not None and self.ends_by < timezone.now()
