"""Check the dates of every row, after those were set that an older version of the portal wrote meanwhile."""

from importlib import import_module

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations

fill = import_module("access_requests.migrations.0023_fill_first_submitted_at").fill


class Migration(migrations.Migration):
    # A migration of its own: the rows are read while others write.
    atomic = False  # each batch commits

    dependencies = [("access_requests", "0025_long_lists")]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        ValidateConstraint(model_name="accessrequest", name="request_submitted_has_first_date"),
    ]
