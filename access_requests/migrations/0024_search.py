"""What search needs of the database: trigrams (`pg_trgm` is trusted: the database's owner may add it), and a collation that folds case in every script."""

from django.contrib.postgres.operations import TrigramExtension
from django.db import Error, migrations, transaction

# The first that this server has: built in since PostgreSQL 17, ICU in most older ones.
COLLATIONS = [
    "provider = builtin, locale = 'C.UTF-8'",
    "provider = icu, locale = 'und'",
    "provider = libc, locale = 'C.UTF-8'",
]


def make_collation(apps, schema_editor):
    """Make `gatehouse_search`, a name that is the same on every server."""
    for kind in COLLATIONS:
        try:
            with transaction.atomic(using=schema_editor.connection.alias):
                schema_editor.execute(f"CREATE COLLATION IF NOT EXISTS gatehouse_search ({kind})")
            return
        except Error:
            if kind == COLLATIONS[-1]:
                raise


class Migration(migrations.Migration):

    dependencies = [("access_requests", "0023_fill_first_submitted_at")]

    operations = [
        TrigramExtension(),
        migrations.RunPython(
            make_collation, lambda apps, editor: editor.execute("DROP COLLATION IF EXISTS gatehouse_search")
        ),
    ]
