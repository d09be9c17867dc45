"""Copies of content in a bucket: one row for each copy that is still to be made."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from model_ops.models.revisions import Blob


class BucketCopy(models.Model):
    """The copying of one blob to the configured bucket, by the worker that holds the lease.

    The row is made for a published revision (`Revision.bucket`) and deleted once `Blob.bucket` records the
    copy.
    """

    blob = models.OneToOneField(Blob, models.CASCADE, primary_key=True, related_name="bucket_copy")
    place = models.CharField(max_length=300, help_text=_("Bucket and prefix, as s3://bucket/prefix."))
    upload_id = models.TextField(blank=True, help_text=_("The unfinished multipart upload that goes on."))
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=32, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField(
        db_default=Now(),
        help_text=_("The next try: after a failure later, while it is copied the lease's end."),
    )
    error = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = _("bucket copies")
        indexes = [
            models.Index(fields=["place", "not_before", "blob"], name="bucket_copy_next"),
            models.Index(
                fields=["lease_until"], condition=Q(lease_until__isnull=False), name="bucket_copy_lease"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.blob_id} to {self.place}"
