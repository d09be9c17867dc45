"""Add download counts next to the log, computed once from its existing rows.

The log takes no new rows while they are counted: journals wait for that, but no one who reads or downloads
does.
"""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

COUNT = """
    LOCK TABLE model_ops_download IN SHARE MODE;
    INSERT INTO model_ops_modeldownloads (model_id, recent, all_time)
    SELECT model_id, count(*) FILTER (WHERE started_at >= since.midnight), count(*)
    FROM model_ops_download,
        (SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '29 days' AS midnight) since
    GROUP BY model_id;
    INSERT INTO model_ops_downloadday (model_id, day, bodies)
    SELECT model_id, (started_at AT TIME ZONE 'UTC')::date AS day, count(*) FROM model_ops_download
    WHERE started_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '29 days'
    GROUP BY model_id, day"""


class Migration(migrations.Migration):
    dependencies = [
        ("access_requests", "0014_rendered_texts"),
        ("model_ops", "0005_source_rights"),
    ]

    operations: list[Any] = [
        migrations.CreateModel(
            name="ModelDownloads",
            fields=[
                (
                    "model",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="download_numbers",
                        serialize=False,
                        to="access_requests.gatedmodel",
                    ),
                ),
                (
                    "recent",
                    models.BigIntegerField(db_default=0, default=0, help_text="The sum of the model's days."),
                ),
                ("all_time", models.BigIntegerField(db_default=0, default=0)),
            ],
        ),
        migrations.CreateModel(
            name="DownloadDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField(db_index=True)),
                ("bodies", models.BigIntegerField()),
                (
                    "model",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="access_requests.gatedmodel",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("model", "day"), name="one_count_per_model_and_day")
                ],
            },
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
