"""Ended sessions are found by when they were last seen; the table is allauth's, so the index is made by SQL."""

from django.db import migrations


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('accounts', '0002_imported_people'),
        ('usersessions', '0001_initial'),
    ]

    operations = [
        migrations.RunSQL(
            [
                'DROP INDEX CONCURRENTLY IF EXISTS session_last_seen',  # one that an interrupted migration left
                'CREATE INDEX CONCURRENTLY session_last_seen ON usersessions_usersession (last_seen_at)',
            ],
            'DROP INDEX CONCURRENTLY IF EXISTS session_last_seen',
        ),
    ]
