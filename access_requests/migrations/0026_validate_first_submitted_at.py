"""Check the dates of every row, after filling in rows that an older version wrote in the meantime."""

from importlib import import_module

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations

fill = import_module("access_requests.migrations.0023_fill_first_submitted_at").fill


class Migration(migrations.Migration):
    # A separate migration, so that others can write while the rows are read.
    atomic = False  # each batch commits

    dependencies = [("access_requests", "0025_long_lists")]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        ValidateConstraint(model_name="accessrequest", name="request_submitted_has_first_date"),
    ]
