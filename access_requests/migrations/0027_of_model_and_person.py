"""Indexes for a page of people of one model: the others read all that person asked, or all that was asked for the model."""

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
