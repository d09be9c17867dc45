"""Copies of content in a bucket: one row for each that is being made or could not be."""

from __future__ import annotations

from django.db import models

from model_ops.models.revisions import Blob


class BucketCopy(models.Model):
    """The copying of one blob into the bucket of the settings, by whichever worker holds the lease.

    What is finished is noted on the blob itself (`Blob.bucket`), and its row here goes.
    """

    blob = models.OneToOneField(Blob, models.CASCADE, primary_key=True, related_name="bucket_copy")
    place = models.CharField(max_length=300, help_text="Bucket and prefix, as s3://bucket/prefix.")
    upload_id = models.TextField(blank=True, help_text="The unfinished multipart upload that goes on.")
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=32, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField(null=True, blank=True, help_text="After a failure: when to try again.")
    error = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "bucket copies"

    def __str__(self) -> str:
        return f"{self.blob_id} to {self.place}"
