"""Add rows for copies that are still to be made: searching for missing ones reads every file."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

FILL = "UPDATE model_ops_bucketcopy SET not_before = now() WHERE not_before IS NULL"


class Migration(migrations.Migration):
    dependencies = [("model_ops", "0009_long_lists")]

    operations = [
        migrations.AddField(
            "revision",
            "bucket",
            models.CharField(
                db_default="",
                editable=False,
                help_text="The bucket and prefix for which copies of its large files were asked for.",
                max_length=300,
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AlterField(
            "bucketcopy",
            "not_before",
            models.DateTimeField(
                db_default=Now(),
                help_text="The next try: after a failure later, while it is copied the lease's end.",
            ),
        ),
        migrations.AddIndex(
            "bucketcopy", models.Index(fields=["place", "not_before", "blob"], name="bucket_copy_next")
        ),
        migrations.AddIndex(
            "bucketcopy",
            models.Index(
                fields=["lease_until"], condition=Q(lease_until__isnull=False), name="bucket_copy_lease"
            ),
        ),
    ]
