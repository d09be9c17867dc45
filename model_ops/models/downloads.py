"""The download log: one row per body, and the data needed to join nginx's log to it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from access_requests.models import AccessToken, GatedModel, Grant
from model_ops.enums import DownloadMode, DownloadState

BADGES = {
    DownloadState.COMPLETE: "ok",
    DownloadState.RUNNING: "info",
    DownloadState.WAITING: "info",
    DownloadState.PARTIAL: "warn",
    DownloadState.UNKNOWN: "warn",
    DownloadState.CUT: "bad",
}


def new_request_id() -> str:
    """Return a random id for one body, from its first line in the journal to its row."""
    return uuid.uuid4().hex


class Download(models.Model):
    """One body: who was sent which bytes of which file, and how it ended.

    Rows are written by `services.downloads.journal`, never while a body is being sent. Bytes and seconds that
    cannot be known (the process was killed, the link leads to a bucket) are null, not 0.
    """

    request_id = models.CharField(max_length=64, unique=True, default=new_request_id)
    mode = models.CharField(max_length=5, choices=DownloadMode, default=DownloadMode.OWN)
    state = models.CharField(max_length=11, choices=DownloadState, default=DownloadState.RUNNING)
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
    bytes_sent = models.BigIntegerField(null=True, blank=True)
    status = models.PositiveSmallIntegerField()
    seconds = models.FloatField(null=True, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    client = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField()
    link_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("How long the link into the bucket worked.")
    )
    journal = models.CharField(
        max_length=100, blank=True, help_text=_("Which process sent it, while it is being sent.")
    )

    class Meta:
        ordering = ["-started_at", "-pk"]
        indexes = [
            models.Index(
                fields=["model", "started_at", "id"], include=["bytes_sent"], name="download_by_model"
            ),
            models.Index(
                fields=["user", "started_at", "id"], include=["bytes_sent"], name="download_by_user"
            ),
            models.Index(fields=["started_at", "id"], name="download_by_time"),
            models.Index(
                fields=["state", "started_at"],
                condition=Q(state__in=[DownloadState.RUNNING, DownloadState.WAITING]),
                name="download_open",
            ),
            models.Index(
                fields=["state", "started_at", "id"],
                condition=~Q(state=DownloadState.COMPLETE),
                name="download_by_state",
            ),
            models.Index(fields=["mode", "started_at", "id"], name="download_by_mode"),
        ]

    def __str__(self) -> str:
        return f"{self.path}: {self.get_state_display()}"

    @property
    def badge(self) -> str:
        """Return the colour of the state on pages."""
        return BADGES.get(DownloadState(self.state), "")


class ModelDownloads(models.Model):
    """The number of bodies sent for a model; `services.downloads.counts` counts each with its log row."""

    model = models.OneToOneField(
        GatedModel, models.CASCADE, primary_key=True, related_name="download_numbers"
    )
    recent = models.BigIntegerField(default=0, db_default=0, help_text=_("The sum of the model's days."))
    all_time = models.BigIntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return f"{self.model}: {self.recent} lately, {self.all_time} in all"


class DownloadDay(models.Model):
    """The number of bodies of a model that began on one day (UTC); kept while `recent` includes the day."""

    model = models.ForeignKey(GatedModel, models.CASCADE, related_name="+", db_index=False)
    day = models.DateField(db_index=True)
    bodies = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "day"], name="one_count_per_model_and_day")]

    def __str__(self) -> str:
        return f"{self.model} on {self.day}: {self.bodies}"


class LogPosition(models.Model):
    """How far another program's log file has been read, stored in the same transaction as the lines."""

    path = models.CharField(max_length=500, unique=True)
    inode = models.BigIntegerField()
    head = models.CharField(
        max_length=64, blank=True, help_text=_("SHA-256 of its first line: inodes are used again.")
    )
    offset = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.path} at {self.offset}"


class UnjoinedEnd(models.Model):
    """The end of a body as nginx reported it, for a row that does not exist yet."""

    request_id = models.CharField(max_length=64, unique=True)
    status = models.PositiveSmallIntegerField()
    bytes_sent = models.BigIntegerField()
    seconds = models.FloatField()
    complete = models.BooleanField()
    read_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["read_at"], name="unjoined_by_time")]

    def __str__(self) -> str:
        return self.request_id
