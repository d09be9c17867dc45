from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access_requests", "0015_catalogue_search"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: list[Any] = [
        migrations.CreateModel(
            name="ListPlace",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "place",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("pending", "waiting for a decision, or for the person to change something"),
                            ("accepted", "a live grant"),
                            ("rejected", "rejected"),
                            ("reset", "access ended, or the request was reset: may ask again"),
                        ],
                        help_text="Empty while nothing counts.",
                        max_length=10,
                    ),
                ),
                ("asked_at", models.DateTimeField(blank=True, null=True)),
                (
                    "model",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="access_requests.gatedmodel",
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("person", "model"), name="one_place_per_person_and_model"
                    )
                ],
            },
        ),
    ]
