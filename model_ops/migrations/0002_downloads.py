"""Change the download log: rows begin before the first byte, have an id, and record how the body ended."""

from django.conf import settings
from django.db import migrations, models

import model_ops.models.downloads

# Rows written after their body ended get unique ids and the state that their bytes show.
NAME_OLD_ROWS = """
UPDATE model_ops_download SET request_id = 'before-' || id,
    state = CASE WHEN bytes_sent >= bytes_asked THEN 'complete' ELSE 'partial' END
"""
MODES = [("own", "sent by Gatehouse"), ("nginx", "handed to nginx"), ("s3", "link to the bucket")]
STATES = [
    ("running", "being sent"),
    ("complete", "complete"),
    ("partial", "ended early"),
    ("cut", "cut off"),
    ("waiting", "waiting for nginx's log"),
    ("unknown", "not in nginx's log"),
    ("handed_over", "handed over"),
]
ID = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    dependencies = [
        ("model_ops", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="LogPosition",
            fields=[
                ("id", ID),
                ("path", models.CharField(max_length=500, unique=True)),
                ("inode", models.BigIntegerField()),
                (
                    "head",
                    models.CharField(
                        blank=True,
                        help_text="SHA-256 of its first line: inodes are used again.",
                        max_length=64,
                    ),
                ),
                ("offset", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="UnjoinedEnd",
            fields=[
                ("id", ID.clone()),
                ("request_id", models.CharField(max_length=64, unique=True)),
                ("status", models.PositiveSmallIntegerField()),
                ("bytes_sent", models.BigIntegerField()),
                ("seconds", models.FloatField()),
                ("complete", models.BooleanField()),
                ("read_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.AlterModelOptions(name="download", options={"ordering": ["-started_at", "-pk"]}),
        migrations.RemoveIndex(model_name="download", name="download_by_model"),
        migrations.AddField(
            "download",
            "journal",
            models.CharField(
                blank=True, help_text="Which process sent it, while it is being sent.", max_length=100
            ),
        ),
        migrations.AddField(
            "download",
            "link_seconds",
            models.PositiveIntegerField(
                blank=True, help_text="How long the link into the bucket worked.", null=True
            ),
        ),
        migrations.AddField("download", "mode", models.CharField(choices=MODES, default="own", max_length=5)),
        migrations.AddField("download", "request_id", models.CharField(max_length=64, null=True)),
        migrations.AddField(
            "download", "state", models.CharField(choices=STATES, default="running", max_length=11)
        ),
        migrations.RunSQL(NAME_OLD_ROWS, migrations.RunSQL.noop),
        migrations.AlterField(
            "download",
            "request_id",
            models.CharField(default=model_ops.models.downloads.new_request_id, max_length=64, unique=True),
        ),
        migrations.AlterField("download", "bytes_sent", models.BigIntegerField(blank=True, null=True)),
        migrations.AlterField("download", "seconds", models.FloatField(blank=True, null=True)),
        migrations.AddIndex(
            "download",
            models.Index(
                fields=["model", "started_at", "id"], include=("bytes_sent",), name="download_by_model"
            ),
        ),
        migrations.AddIndex(
            "download",
            models.Index(
                fields=["user", "started_at", "id"], include=("bytes_sent",), name="download_by_user"
            ),
        ),
        migrations.AddIndex("download", models.Index(fields=["started_at", "id"], name="download_by_time")),
        migrations.AddIndex(
            "download",
            models.Index(
                condition=models.Q(("state__in", ["running", "waiting"])),
                fields=["state", "started_at"],
                name="download_open",
            ),
        ),
        migrations.AddField(
            "weightsource",
            "checked",
            models.CharField(
                blank=True,
                help_text="What comparing the fetched files with the remote's hashes showed.",
                max_length=300,
            ),
        ),
    ]
