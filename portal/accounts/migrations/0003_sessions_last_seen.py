"""Index sessions by when they were last seen, to find ended ones. The table is allauth's: hence plain SQL."""

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
                'DROP INDEX CONCURRENTLY IF EXISTS session_last_seen',  # left by an interrupted migration
                'CREATE INDEX CONCURRENTLY session_last_seen ON usersessions_usersession (last_seen_at)',
            ],
            'DROP INDEX CONCURRENTLY IF EXISTS session_last_seen',
        ),
    ]
