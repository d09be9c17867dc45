from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    # A migration of its own: the rows are read while others write.

    dependencies = [("access_requests", "0025_long_lists")]

    operations = [ValidateConstraint(model_name="accessrequest", name="request_submitted_has_first_date")]
