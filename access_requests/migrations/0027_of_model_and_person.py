"""Add indexes for people of one model; others read all requests of the person, or all for the model."""

from __future__ import annotations

from django.db import migrations, models

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0026_validate_first_submitted_at")]

    operations = [
        AddIndex(
            "accessrequest", models.Index(fields=["model", "applicant"], name="request_of_model_and_person")
        ),
        AddIndex("grant", models.Index(fields=["model", "user"], name="grant_of_model_and_person")),
    ]
