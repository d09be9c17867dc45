"""Index open grants by their end, without blocking writers."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0020_mail_indexes")]

    operations = [
        AddIndex(
            "grant",
            models.Index(fields=["ends_at"], condition=Q(closed_at__isnull=True), name="grant_open_until"),
        )
    ]
