"""Add indexes for lists of millions of rows, built while the portal keeps running."""

from django.conf import settings
from django.db import migrations, models

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False  # PostgreSQL requires this for indexes built concurrently

    dependencies = [
        ('access_requests', '0026_validate_first_submitted_at'),
        ('model_ops', '0008_due'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndex(
            model_name='download',
            index=models.Index(condition=models.Q(('state', 'complete'), _negated=True), fields=['state', 'started_at', 'id'], name='download_by_state'),
        ),
        AddIndex(
            model_name='download',
            index=models.Index(fields=['mode', 'started_at', 'id'], name='download_by_mode'),
        ),
    ]
