"""Add an index of revisions whose bucket copies are not requested yet, built without blocking writes."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("model_ops", "0010_bucket_work")]

    operations = [
        AddIndex(
            "revision",
            models.Index(fields=["bucket", "id"], condition=Q(held_at=None), name="revision_of_bucket"),
        ),
    ]
