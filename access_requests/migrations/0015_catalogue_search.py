"""Index names and cards by trigrams, so that a search reads only the models that it finds."""

from typing import Any

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations
from django.db.models.functions import Upper

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0014_rendered_texts")]

    operations: list[Any] = [
        # Never removed: others may use it, and the database's owner may have created it.
        migrations.RunSQL("CREATE EXTENSION IF NOT EXISTS pg_trgm", migrations.RunSQL.noop),
        *(
            AddIndex(
                "gatedmodel",
                GinIndex(OpClass(Upper(name), name="gin_trgm_ops"), name=f"gated_model_{name}_search"),
            )
            for name in ("repo_id", "card")
        ),
    ]
