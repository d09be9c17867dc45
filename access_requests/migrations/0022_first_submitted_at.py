from django.db import migrations, models


class Migration(migrations.Migration):
    # No row is written here, so the table is locked only briefly.

    dependencies = [("access_requests", "0021_grants_open")]

    operations = [
        migrations.AlterField(
            model_name="accessrequest",
            name="submitted_at",
            field=models.DateTimeField(blank=True, help_text="The last time it was submitted.", null=True),
        ),
        migrations.AddField(
            model_name="accessrequest",
            name="first_submitted_at",
            field=models.DateTimeField(
                blank=True, editable=False, help_text="Set once: the place in the queue counts from it.", null=True
            ),
        ),
    ]
