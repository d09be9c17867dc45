"""Add copies in a bucket: where each content is, and copies in progress."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("model_ops", "0002_downloads")]
    operations = [
        migrations.AddField(
            "blob",
            "bucket",
            models.CharField(
                blank=True,
                default="",
                help_text="Where a whole, checked copy lies, as s3://bucket/prefix.",
                max_length=300,
            ),
            preserve_default=False,
        ),
        migrations.AddField("blob", "in_bucket_at", models.DateTimeField(blank=True, null=True)),
        migrations.CreateModel(
            name="BucketCopy",
            fields=[
                (
                    "blob",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="bucket_copy",
                        serialize=False,
                        to="model_ops.blob",
                    ),
                ),
                (
                    "place",
                    models.CharField(
                        help_text="Bucket and prefix, as s3://bucket/prefix.", max_length=300
                    ),
                ),
                (
                    "upload_id",
                    models.TextField(
                        blank=True, help_text="The unfinished multipart upload that goes on."
                    ),
                ),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("lease_owner", models.CharField(blank=True, max_length=32)),
                ("attempts", models.PositiveIntegerField(default=0)),
                (
                    "not_before",
                    models.DateTimeField(
                        blank=True, help_text="After a failure: when to try again.", null=True
                    ),
                ),
                ("error", models.TextField(blank=True)),
            ],
            options={"verbose_name_plural": "bucket copies"},
        ),
    ]
