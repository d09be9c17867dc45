"""An index of the ends of open grants, made beside whoever writes."""

from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0020_mail_indexes")]

    operations = [
        AddIndexConcurrently(
            "grant",
            models.Index(fields=["ends_at"], condition=Q(closed_at__isnull=True), name="grant_open_until"),
        )
    ]
