"""`manage.py copy_to_bucket`: do the workers' copying in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from model_ops.models import BucketCopy
from model_ops.services.store import bucket


class Command(BaseCommand):
    help = "Copies published files that are missing into the bucket of the settings, and says what could not be copied."

    def handle(self, *args: Any, **options: Any) -> None:
        if not bucket.in_use():
            raise CommandError("There is no bucket: set GATEHOUSE_DELIVERY=s3 and GATEHOUSE_S3_BUCKET.")
        copied = bucket.copy_missing()
        left = bucket.missing().count()
        for copy in BucketCopy.objects.filter(place=bucket.place()).exclude(error=""):
            self.stdout.write(f"{copy.blob_id}: {copy.error}")
        self.stdout.write(f"{copied} copied to {bucket.place()}, {left} missing.")
        if left:
            raise CommandError("Not everything is in the bucket yet: run this again, or wait for the worker.")
