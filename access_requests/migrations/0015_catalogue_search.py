"""Groups of three letters of names and cards, so that a search reads the models it finds and no others."""

from typing import Any

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations
from django.db.models.functions import Upper

from access_requests.indexing import AddIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("access_requests", "0014_rendered_texts")]

    operations: list[Any] = [
        # Never taken back: others may use it, and the database's owner may have made it.
        migrations.RunSQL("CREATE EXTENSION IF NOT EXISTS pg_trgm", migrations.RunSQL.noop),
        *(
            AddIndex(
                "gatedmodel",
                GinIndex(OpClass(Upper(name), name="gin_trgm_ops"), name=f"gated_model_{name}_search"),
            )
            for name in ("repo_id", "card")
        ),
    ]
