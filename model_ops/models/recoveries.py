"""Sources of weights, and the runs that make weights from them. The row owns the job, not the broker."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_requests.models import GatedModel, Grant
from model_ops.enums import DeliveryState, Method, RecoveryState, SourceKind, WaitsFor
from model_ops.recovery.planning.options import Options


class WeightSource(models.Model):
    """A folder as it was when it was checked, or a Hub repository at a commit."""

    spec = models.CharField(
        max_length=1000,
        help_text=_("`/folder`, `hf:ID@COMMIT`, `hf+https://HOST/ID@COMMIT` or `gatehouse:ID@COMMIT`."),
    )
    kind = models.CharField(max_length=10, choices=SourceKind)
    endpoint = models.CharField(max_length=300, blank=True)
    repo_id = models.CharField(max_length=193, blank=True)
    commit = models.CharField(max_length=40, blank=True)
    revision = models.ForeignKey(
        "model_ops.Revision",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="sources",
        help_text=_("Of a revision that was uploaded here."),
    )
    fingerprint = models.CharField(
        max_length=64,
        blank=True,
        help_text=_("Of a folder: names, sizes and change times. A changed folder is another source."),
    )
    checked = models.CharField(
        max_length=300,
        blank=True,
        help_text=_("What comparing the fetched files with the remote's hashes showed."),
    )
    with_token = models.BooleanField(
        default=True,
        help_text=_("The portal's Hub token may be used for it. Kept apart from what was fetched without."),
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("weight source")
        constraints = [
            models.UniqueConstraint(fields=["spec", "fingerprint", "with_token"], name="one_row_per_source")
        ]

    def __str__(self) -> str:
        return self.spec


class Recovery(models.Model):
    """One run of the engine, shared by every model with the same inputs, so that nothing is merged twice."""

    method = models.CharField(max_length=10, choices=Method)
    base = models.ForeignKey(
        WeightSource, models.PROTECT, null=True, blank=True, related_name="recoveries_as_base"
    )
    diff = models.ForeignKey(
        WeightSource, models.PROTECT, null=True, blank=True, related_name="recoveries_as_diff"
    )
    files = models.ForeignKey(
        WeightSource, models.PROTECT, null=True, blank=True, related_name="recoveries_as_files"
    )
    options = models.JSONField(
        default=dict,
        blank=True,
        help_text=_(
            "What was chosen beside the engine's defaults; empty where files are published as they are."
        ),
    )

    state = models.CharField(max_length=10, choices=RecoveryState, default=RecoveryState.PLANNED)
    wanted_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Since when someone waits for it; nothing runs before.")
    )
    lease_owner = models.CharField(
        max_length=32, blank=True, help_text=_("Random; the worker that holds the row.")
    )
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text=_("After this the row may be claimed by another worker.")
    )
    attempts = models.PositiveIntegerField(default=0)
    run_id = models.CharField(
        max_length=32,
        blank=True,
        help_text=_("Names the attempt whose shards several workers make; empty where one makes them all."),
    )
    waiting_for = models.CharField(
        max_length=10,
        choices=WaitsFor,
        blank=True,
        db_default="",
        help_text=_("What it, or one of its shards, cannot go on without for now."),
    )
    waiting_since = models.DateTimeField(
        null=True, blank=True, help_text=_("When it first had to wait; kept until it ends.")
    )
    retry_at = models.DateTimeField(null=True, blank=True, help_text=_("When it is looked at again."))
    tries = models.PositiveSmallIntegerField(
        db_default=0, help_text=_("How often in a row it had to wait without getting further.")
    )
    bytes_kept = models.BigIntegerField(
        db_default=0,
        help_text=_("What was finished on the disk at the last try; more than that is progress."),
    )
    bytes_needed = models.BigIntegerField(
        db_default=0, help_text=_("The free bytes that it waits for; 0 where that is not known.")
    )
    stage = models.CharField(max_length=40, blank=True, help_text="fetching, recovering, publishing")
    stage_started_at = models.DateTimeField(null=True, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    plan = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True, help_text=_("One sentence."))
    manifest = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = _("recoveries")
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["wanted_at", "id"],
                condition=Q(
                    state__in=(RecoveryState.PLANNED, RecoveryState.RUNNING), wanted_at__isnull=False
                ),
                name="recovery_moving",
            ),
            models.Index(fields=["retry_at"], condition=~Q(waiting_for=""), name="recovery_waiting"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["method", "base", "diff", "files", "options"],
                name="one_recovery_per_inputs",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(method=Method.RECOVER, base__isnull=False, diff__isnull=False, files__isnull=True)
                | Q(method=Method.COPY, base__isnull=True, diff__isnull=True, files__isnull=False),
                name="recovery_has_its_inputs",
            ),
            models.CheckConstraint(
                condition=~Q(state=RecoveryState.RUNNING)
                | (Q(lease_until__isnull=False) & ~Q(lease_owner="")),
                name="recovery_running_has_lease",
            ),
        ]

    def __str__(self) -> str:
        return gettext("recovery %(number)s (%(state)s)") % {"number": self.pk, "state": self.state}

    @property
    def percent(self) -> int:
        """Return 0 to 100; 100 only when ready."""
        if self.state == RecoveryState.READY:
            return 100
        return min(99, self.bytes_done * 100 // self.bytes_total) if self.bytes_total else 0

    @property
    def speed(self) -> float:
        """Return bytes per second since the stage began; 0 if unknown."""
        if self.state != RecoveryState.RUNNING or not self.stage_started_at or not self.bytes_total:
            return 0
        seconds = (timezone.now() - self.stage_started_at).total_seconds()
        return self.bytes_done / seconds if seconds >= 1 else 0

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds left in the stage at its speed so far; None if unknown or nothing is left."""
        speed, left = self.speed, self.bytes_total - self.bytes_done
        return left / speed if speed and left > 0 else None

    @property
    def written_as(self) -> str:
        """Describe how base and diff are combined; with a plan, include the options that it decided."""
        if self.method == Method.COPY:
            return gettext("as they are")
        chosen = Options(**self.options)
        if chosen.method == "xor":
            return gettext("bytes, exclusive or of the files")
        decided = self.plan.get("options") or {}
        rows = (
            decided.get("resize_policy")
            or chosen.resize_policy
            or (gettext("none") if decided else gettext("as the diff says"))
        )
        return gettext("%(dtype)s, %(compat)s, new rows: %(rows)s") % {
            "dtype": chosen.dtype_name,
            "compat": chosen.compat,
            "rows": rows,
        }


class ModelWeights(models.Model):
    """A model's choice of a recovery for its weights; the current one has no end date."""

    model = models.ForeignKey(GatedModel, models.PROTECT, related_name="weights")
    recovery = models.ForeignKey(Recovery, models.PROTECT, related_name="weights")
    by_owner = models.BooleanField(
        default=False,
        help_text=_(
            "An owner named the sources: their right to them is checked again before anything is read."
        ),
    )
    created_at = models.DateTimeField(auto_now_add=True)
    replaced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = _("model weights")
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(replaced_at__isnull=True), name="one_current_weights_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.recovery}"


class Delivery(models.Model):
    """What a grant still waits for; the row ensures that each message is sent once."""

    grant = models.OneToOneField(Grant, models.PROTECT, related_name="delivery")
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.WAITING)
    created_at = models.DateTimeField(auto_now_add=True)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = _("deliveries")
        indexes = [
            models.Index(fields=["id"], condition=Q(state=DeliveryState.WAITING), name="delivery_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.grant}: {self.state}"
