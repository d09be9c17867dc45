"""Add what search needs: trigrams, and a collation that folds case in every script.

`pg_trgm` is a trusted extension, so the database's owner may add it.
"""

from django.contrib.postgres.operations import TrigramExtension
from django.db import Error, migrations, transaction

# The first of these that the server has: the built-in one since PostgreSQL 17, ICU in most older ones.
COLLATIONS = [
    "provider = builtin, locale = 'C.UTF-8'",
    "provider = icu, locale = 'und'",
    "provider = libc, locale = 'C.UTF-8'",
]


def make_collation(apps, schema_editor):
    """Create `gatehouse_search`, a collation with the same name on every server."""
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
