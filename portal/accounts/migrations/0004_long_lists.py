"""Indexes for lists of millions of rows, created while the portal keeps running."""

import access_requests.search
import django.contrib.postgres.indexes
from django.db import migrations, models

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False  # as PostgreSQL wants it for indexes made concurrently

    dependencies = [
        ('access_requests', '0024_search'),
        ('accounts', '0003_sessions_last_seen'),
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        AddIndex(
            model_name='user',
            index=django.contrib.postgres.indexes.GinIndex(django.contrib.postgres.indexes.OpClass(access_requests.search.SearchText('first_name', access_requests.search.Glued('last_name', 'first_name'), 'institution', 'username', 'email', 'orcid'), 'gin_trgm_ops'), name='user_search'),
        ),
        AddIndex(
            model_name='user',
            index=models.Index(condition=models.Q(('is_staff', True)), fields=['id'], name='user_staff'),
        ),
        AddIndex(
            model_name='user',
            index=models.Index(condition=models.Q(('is_active', False)), fields=['id'], name='user_inactive'),
        ),
        AddIndex(
            model_name='user',
            index=models.Index(condition=models.Q(('imported', True)), fields=['id'], name='user_imported'),
        ),
    ]
