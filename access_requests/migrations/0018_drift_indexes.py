from typing import Any

from django.db import migrations, models

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0017_fill_list_places")]

    operations: list[Any] = [
        AddIndex(
            "remoterequest", models.Index(fields=["drifted_at", "-id"], name="remote_request_order")
        ),
        AddIndex(
            "remoterequest",
            models.Index(
                condition=models.Q(("drifted_at__isnull", False)),
                fields=["followed", "drifted_at"],
                name="remote_request_drift",
            ),
        ),
    ]
